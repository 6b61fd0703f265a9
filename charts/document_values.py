"""Writes the table of values in charts/README.md from charts/maesh/values.yaml and the comments in it.

`python charts/document_values.py` rewrites the text between the markers. A test checks that it is up to date.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).resolve().parent
BEGIN, END = "<!-- begin: values -->", "<!-- end: values -->"
_KEY = re.compile(r"( *)([A-Za-z_]+):(?: .*)?")


class Value(NamedTuple):
    """A value of the chart: its path, its default, and the comment above it."""

    path: str
    default: Any
    text: str


def list_values(text: str) -> list[Value]:
    """List the values of a values.yaml. An empty mapping is a value; a mapping with entries is a group of values."""
    defaults = dict(_flatten(yaml.safe_load(text)))
    texts = dict(_read_comments(text))
    return [Value(path, default, texts.get(path, "")) for path, default in defaults.items()]


def _flatten(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, below in node.items():
            yield from _flatten(below, f"{path}.{key}" if path else key)
    else:
        yield path, node


def _read_comments(text: str) -> Iterator[tuple[str, str]]:
    """Read the comment directly above each key."""
    keys: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        match = _KEY.fullmatch(line)
        if line.lstrip().startswith("#"):
            comment.append(line.strip(" #"))
            continue
        if match is not None:
            keys = [*keys[: len(match[1]) // 2], match[2]]
            yield ".".join(keys), " ".join(comment)
        comment = []


def render_table(text: str) -> str:
    """Render the table of a values.yaml."""
    rows = [
        f"| `{value.path}` | `{json.dumps(value.default)}` | {value.text.replace('|', chr(92) + '|')} |"
        for value in list_values(text)
    ]
    return "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *rows])


def replace_table(page: str, table: str) -> str:
    """Put a table between the markers of a page."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Update the page."""
    page = FOLDER / "README.md"
    table = render_table((FOLDER / "maesh" / "values.yaml").read_text(encoding="utf-8"))
    page.write_text(replace_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main()
