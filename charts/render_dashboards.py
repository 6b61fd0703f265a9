"""Renders the Grafana dashboards in charts/maesh/dashboards from charts/dashboards.yaml.

`python charts/render_dashboards.py` writes them. Grafana's JSON has twenty lines for each line of the description, so
only the description is edited. A test checks that the files are up to date.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import yaml

CHARTS = Path(__file__).resolve().parent
FOLDER = CHARTS / "maesh" / "dashboards"
KINDS = ("stat", "timeseries", "table")
COLUMNS = 24
HEIGHTS = {"stat": 4}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Description = Mapping[str, Any]
"""A dashboard or a panel, as charts/dashboards.yaml describes it."""


def load_descriptions() -> dict[str, Description]:
    """Load the descriptions of all dashboards, by name."""
    descriptions: dict[str, Description] = yaml.safe_load((CHARTS / "dashboards.yaml").read_text(encoding="utf-8"))
    return descriptions


def render_dashboard(name: str, description: Description) -> dict[str, Any]:
    """Render a dashboard as Grafana imports it."""
    return {
        "uid": f"maesh-{name}",
        "title": description["title"],
        "description": description["description"],
        "tags": ["maesh"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "title": "Maesh", "tags": ["maesh"], "asDropdown": True, "keepTime": True}],
        "templating": {"list": list(_render_variables(description.get("variables", {})))},
        "panels": list(_render_panels(description["rows"])),
    }


def _render_variables(queries: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Render the data source, and a variable for each query; all but that of the service allow several values."""
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    for name, query in queries.items():
        several = {} if name == "service" else {"multi": True, "includeAll": True, "allValue": ".*"}
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            **several,
        }


def _render_panels(rows: Sequence[Sequence[Description]]) -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row in rows:
        edges = pairwise(COLUMNS * at // len(row) for at in range(len(row) + 1))
        height = max(panel.get("height", HEIGHTS.get(_find_kind(panel), 8)) for panel in row)
        for panel, (x, end) in zip(row, edges, strict=True):
            number += 1
            yield {"id": number, "gridPos": {"x": x, "y": y, "w": end - x, "h": height}, **_render_panel(panel)}
        y += height


def _find_kind(panel: Description) -> str:
    return next(kind for kind in KINDS if kind in panel)


def _render_panel(panel: Description) -> dict[str, Any]:
    kind = _find_kind(panel)
    queries = panel["queries"] if "queries" in panel else {panel[kind]: panel["query"]}
    rendered = {
        "type": kind,
        "title": panel[kind],
        "description": panel.get("description", ""),
        "datasource": DATASOURCE,
        "targets": [
            _render_target(kind, letter, *query)
            for letter, query in zip(ascii_uppercase, queries.items(), strict=False)
        ],
        "fieldConfig": {"defaults": _render_defaults(kind, panel), "overrides": list(_render_overrides(panel))},
        "options": _render_options(kind, queries),
    }
    return {**rendered, "transformations": _join_columns(queries)} if kind == "table" else rendered


def _render_target(kind: str, letter: str, legend: str, query: str) -> dict[str, Any]:
    is_range = kind == "timeseries"
    form = {"format": "table"} if kind == "table" else {"legendFormat": legend}
    return {"refId": letter, "expr": query, "range": is_range, "instant": not is_range, **form}


def _render_defaults(kind: str, panel: Description) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.get("unit", "short"), "min": 0}
    if kind == "stat":
        defaults["thresholds"] = _render_thresholds(panel)
    if kind == "timeseries":
        stacking = {"fillOpacity": 40, "stacking": {"mode": "normal"}} if panel.get("stacked") else {"fillOpacity": 5}
        defaults["custom"] = {"showPoints": "never", **stacking}
    return defaults


def _render_thresholds(panel: Description) -> dict[str, Any]:
    red = [{"color": "red", "value": panel["redFrom"]}] if "redFrom" in panel else []
    return {"mode": "absolute", "steps": [{"color": "green", "value": None}, *red]}


def _render_overrides(panel: Description) -> Iterator[dict[str, Any]]:
    """Render the units and colours of a table's columns, and the links of its labels."""
    for title, unit in panel.get("units", {}).items():
        properties: list[dict[str, Any]] = [{"id": "unit", "value": unit}]
        if "redFrom" in panel and unit == "percentunit":
            properties.append({"id": "thresholds", "value": _render_thresholds(panel)})
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        yield {"matcher": {"id": "byName", "options": title}, "properties": properties}
    for label, name in panel.get("links", {}).items():
        address = f"/d/maesh-{name}?var-{label}=${{__value.raw}}&var-datasource=${{datasource}}&${{__url_time_range}}"
        link = {"title": f"Open the {label}", "url": address}
        yield {"matcher": {"id": "byName", "options": label}, "properties": [{"id": "links", "value": [link]}]}


def _render_options(kind: str, queries: Mapping[str, str]) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    if kind == "table":
        return {"sortBy": [{"displayName": next(iter(queries)), "desc": True}]}
    legend = {"displayMode": "list", "placement": "bottom"}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _join_columns(queries: Mapping[str, str]) -> list[dict[str, Any]]:
    """Join the results of a table's queries by their labels, and name the columns."""
    columns = [f"Value #{letter}" for letter in ascii_uppercase] if len(queries) > 1 else ["Value"]
    titles = dict(zip(columns, queries, strict=False))
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": titles}},
    ]


def render_text(dashboard: Mapping[str, Any]) -> str:
    """Render the file of a dashboard, with one line for each panel."""
    panels = ",\n".join(f"    {json.dumps(panel)}" for panel in dashboard["panels"])
    head = json.dumps({**dashboard, "panels": []}, indent=2)
    return head.replace('"panels": []', f'"panels": [\n{panels}\n  ]') + "\n"


def render_files() -> dict[str, str]:
    """Render the files of all dashboards, by name."""
    return {f"{name}.json": render_text(render_dashboard(name, each)) for name, each in load_descriptions().items()}


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in render_files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
