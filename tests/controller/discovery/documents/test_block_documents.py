import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.controller.discovery.documents.block_documents import MAX_LEVELS, read_block_document
from maesh_core.controller.discovery.documents.yaml_documents import MAX_NODES, Budget, parse_chunk

TOKENS = (
    *("a", "b", "metadata", "labels", "annotations", "1", "-1", "~", "yes", "null", "x y", "0x1", "http://x:1"),
    *(":", ": ", " : ", " ", "  ", "    ", "- ", "-", "- - ", "\n", "\n  ", "\n    ", "\n- ", "\n# c\n", " # c\n", "#"),
    *("[", "]", "{", "}", ", ", ",", "[a, b]", "{a: b, labels: c}", "'", '"', "'x'", '"y: z"', "[]", "{}"),
    *(
        "---\n",
        "---",
        "...",
        "|",
        ">",
        "&x ",
        "*x",
        "!",
        "!!str ",
        "%",
        "@",
        "`",
        "? ",
        "<<",
        "\\",
        "=",
        "\t",
        "é",
        "\r\n",
    ),
)
LINES = (
    *("a: 1", "b: x", "a:", "b:", "metadata:", "labels:", "annotations: {a: 1, b: yes}", "c: [a, 'b, c', 1]", "1"),
    *("- a", "- a: 1", "- b:", "- metadata:", "-   c: 2", "-", "- 'x'", "x: 'y'", "- [a]", "- {a: 1}", "# comment"),
    *("", "  ", "a: b # c", "labels: ~", "d: no", "e: null", "f: 'no'", "- ~", "g: {}", "h: |", "k: >-", "l: &m n"),
)


def parse(text: str) -> tuple[list[tuple[int, Any]], int]:
    budget = Budget(MAX_NODES)
    documents = list(parse_chunk(text, budget))
    return documents, MAX_NODES - budget.left


def holds_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(holds_null, value.values()))
    return any(map(holds_null, value)) if isinstance(value, list) else value is None


def compare(text: str) -> None:
    """Compare with the parser, by text: this tells 1 from True, and shows the order of keys."""
    found = read_block_document(text)
    if found is None:
        return
    documents, nodes = parse(text)
    assert (repr(documents), nodes) == (repr([(found.line, found.value)]), found.nodes)
    assert holds_null(found.value) == found.has_nulls


@settings(max_examples=300)
@given(st.lists(st.sampled_from(TOKENS), max_size=12).map("".join))
def test_what_is_read_from_any_text_is_what_the_parser_reads(text: str) -> None:
    compare(text)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(LINES)), min_size=1, max_size=14))
def test_what_is_read_from_any_lines_is_what_the_parser_reads(lines: list[tuple[int, str]]) -> None:
    compare("\n".join(" " * indentation + line for indentation, line in lines))


names = st.text("abcxyz019_./-", min_size=1, max_size=8)
scalars = (
    st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.sampled_from(["yes", "~", "1e3", "0x1f", "", "- a", "a: b", "a #b", "null", "{}", ".5", "-", "a:", "08", "<<"])
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
    | st.none()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(names | st.sampled_from(["metadata", "labels"]), values, min_size=1, max_size=4), st.booleans())
def test_what_is_read_from_rendered_values_is_what_the_parser_reads(value: dict[str, Any], is_indented: bool) -> None:
    text = yaml.dump(value, default_flow_style=False, indent=4 if is_indented else 2, width=10_000)
    compare(f"---\n{text}")


PLAIN = """\
--- # of a shop

# The front end.
apiVersion: v1
kind: Service
metadata:
  name: web
  labels: { app: web, tier: 1 }
  annotations:
    maesh.containo.us/80.retry-attempts: 3   # a number, which counts as text
    example.com/none:
    example.com/url: http://example.com:80/a#b
spec:
  ports:
  - name: web
    port: 80
    hosts: [a, 'b, c', "d", 5]
  -   name: "admin: 1"
      port: 0x50
      ready: yes
  externalIPs:
    - 10.0.0.1
    - -1.5
    - a b  c
  selector: {}
  last:
"""


def test_the_style_of_most_manifests_is_read() -> None:
    found = read_block_document(PLAIN)
    assert found is not None
    assert found.value == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "web",
            "labels": {"app": "web", "tier": "1"},
            "annotations": {
                "maesh.containo.us/80.retry-attempts": "3",
                "example.com/none": None,
                "example.com/url": "http://example.com:80/a#b",
            },
        },
        "spec": {
            "ports": [
                {"name": "web", "port": 80, "hosts": ["a", "b, c", "d", 5]},
                {"name": "admin: 1", "port": 80, "ready": True},
            ],
            "externalIPs": ["10.0.0.1", -1.5, "a b  c"],
            "selector": {},
            "last": None,
        },
    }
    assert (found.line, found.has_nulls) == (3, True)
    compare(PLAIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---\n",
        "# nothing\n",
        "text",
        "- a",
        "  a: 1",
        "a: |\n  text",
        "a: >-\n  text",
        "a: b\n  c",
        "a: &x b",
        "a: *x",
        "a: !!str 1",
        "<<: {a: b}",
        "a: 'it''s'",
        'a: "\\n"',
        "a: [b, [c]]",
        "a: {b: {c: d}}",
        "a: {b: 1, b: 2}",
        "a: 1\na: 2",
        "a: 1\n b: 2",
        "a:\n    b: 1\n  c: 2",
        "a:\n- b\n c: 1",
        "a: é",
        "a: 1\r\n",
        "a:\t1",
        "? a\n: b",
        "'a': 1",
        "a: b: c",
        "--- a: 1",
        "a:\n-\n  b: 1",
        "a:\n- - b",
        "a: 1\n...",
    ],
)
def test_everything_else_is_left_to_the_parser(text: str) -> None:
    assert read_block_document(text) is None


def nest(levels: int) -> str:
    return "".join(f"{' ' * level}a:\n" for level in range(levels))


def test_deep_documents_are_left_to_the_parser() -> None:
    assert read_block_document(nest(MAX_LEVELS)) is not None
    assert read_block_document(nest(MAX_LEVELS + 1)) is None


def test_a_line_that_matches_slowly_does_not_exist() -> None:
    for line in (
        " " * 50_000 + "!",
        "a: " + "b " * 30_000 + ":",
        "a: [" + "b, " * 30_000 + "!",
        "a: {" + "b: c, " * 9_000,
    ):
        assert read_block_document(line) is None


def test_infinite_and_undefined_numbers_are_read() -> None:
    found = read_block_document("a: .inf\nb: .nan\n")
    assert found is not None
    assert found.value["a"] == math.inf
    assert math.isnan(found.value["b"])


@pytest.mark.parametrize("start", ["", "-", "a:", "a: [", "a: {", "a: b", "a: [b,", "- a"])
def test_many_spaces_in_a_row_are_left_to_the_parser_because_they_take_long_to_match(start: str) -> None:
    assert read_block_document(f"x: 1\n{start}{' ' * 200}@\n") is None
    assert read_block_document(f"x: 1{' ' * 199}# comment\n") is not None
    assert read_block_document(f"x: 1{' ' * 200}# comment\n") is None
    compare(f"x: 1{' ' * 199}# comment\n")
