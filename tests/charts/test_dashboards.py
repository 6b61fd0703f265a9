"""Grafana's dashboards: valid, up to date, made of metrics that exist, and shipped by the chart."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

CHARTS = Path(__file__).resolve().parents[2] / "charts"
FOLDER = CHARTS / "maesh" / "dashboards"
NAMES = ("controller", "node", "overview", "service")
VARIABLE_QUERY = re.compile(r"label_values\((.+), (\w+)\)")


def load_rendering():
    spec = importlib.util.spec_from_file_location("maesh_chart_render_dashboards", CHARTS / "render_dashboards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RENDERING = load_rendering()
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def list_targets():
    """List the dashboard, panel and target of each query."""
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            yield from ((name, panel, target) for target in panel["targets"])


def replace_variables(expression):
    """Replace variables as Grafana does, with values that have their type."""
    expression = expression.replace("$__rate_interval", "5m")
    return re.sub(r"\$(\w+)(?=[^\"]*\")", "value", expression)


TARGETS = list(list_targets())
QUERIES = [f"{name}: {panel['title']} {target['refId']}" for name, panel, target in TARGETS]


def test_the_files_are_those_that_the_description_gives():
    assert tuple(DASHBOARDS) == NAMES
    files = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert files == RENDERING.render_files(), "run: python charts/render_dashboards.py"


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_has_its_own_names_and_a_variable_for_the_data_source(name):
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == f"maesh-{name}"
    assert dashboard["title"] == f"Maesh / {name.capitalize()}"
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    places = [*dashboard["panels"], *(each for each in variables.values() if each["type"] == "query")]
    assert {json.dumps(each["datasource"]) for each in places} == {
        '{"type": "prometheus", "uid": "${datasource}"}',
    }


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_different_ids_and_titles_and_do_not_overlap(name):
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_that_is_used_is_defined(name):
    dashboard = DASHBOARDS[name]
    defined = {each["name"] for each in dashboard["templating"]["list"]}
    used = {
        found
        for _, panel, target in TARGETS
        for found in re.findall(r"\$(\w+)", target["expr"])
        if panel in dashboard["panels"]
    }
    assert used - {"__rate_interval"} == defined - {"datasource"}


@pytest.mark.parametrize(("name", "panel", "target"), TARGETS, ids=QUERIES)
def test_every_metric_and_label_of_a_query_exists(name, panel, target, read_usage, known_metrics):
    usage = read_usage(replace_variables(target["expr"]))
    assert [metric for metric in usage.selected if metric not in known_metrics] == []
    for metric, labels in usage.selected.items():
        assert labels <= known_metrics[metric], metric
    labels = usage.made.union(*(known_metrics[metric] for metric in usage.selected))
    assert usage.listed <= labels
    assert set(re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))) <= usage.listed


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_and_label_of_a_variable_exists(name, read_usage, known_metrics):
    for variable in DASHBOARDS[name]["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = VARIABLE_QUERY.fullmatch(variable["query"]["query"]).groups()
            for metric in read_usage(selector).selected:
                assert label in known_metrics[metric], metric


def test_every_query_is_one_that_prometheus_accepts(tmp_path, promtool):
    rules = [
        {"record": f"query_{number}", "expr": replace_variables(target["expr"])}
        for number, (_, _, target) in enumerate(TARGETS)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    status, output = promtool("check", "rules", str(path))
    assert status == 0, output
    assert f"SUCCESS: {len(TARGETS)} rules found" in output


def test_links_lead_to_dashboards_and_variables_of_them():
    links = [
        link["url"]
        for dashboard in DASHBOARDS.values()
        for panel in dashboard["panels"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "links"
        for link in each["value"]
    ]
    assert links
    for link in links:
        name, variable = re.match(r"/d/maesh-(\w+)\?var-(\w+)=", link).groups()
        assert variable in {each["name"] for each in DASHBOARDS[name]["templating"]["list"]}


def find_config_map(objects):
    return [each for each in objects if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", "maesh-dashboards")]


def test_the_chart_ships_them_where_and_as_the_sidecar_of_grafana_looks_for_them(render):
    (found,) = find_config_map(render({"metrics": {"dashboards": {"enabled": True}}}, namespace="traffic"))
    assert found["metadata"]["namespace"] == "traffic"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {key: json.loads(text) for key, text in found["data"].items()} == {
        f"maesh-{name}.json": dashboard for name, dashboard in DASHBOARDS.items()
    }


def test_labels_annotations_and_namespace_of_the_dashboards_can_be_set(render):
    given = {"enabled": True, "labels": {"grafana_dashboard": "yes"}, "annotations": {"grafana_folder": "Mesh"}}
    objects = render({"metrics": {"dashboards": {**given, "namespace": "kube-system"}}})
    (found,) = find_config_map(objects)
    assert found["metadata"]["namespace"] == "kube-system"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "yes"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Mesh"}


def test_the_chart_ships_no_dashboards_unless_they_are_enabled(render):
    assert find_config_map(render()) == []
