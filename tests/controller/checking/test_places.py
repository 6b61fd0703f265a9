"""The lines of findings."""

import pytest

from maesh_core.controller.checking.places import DOCUMENT_LIMIT_BYTES, Place, PlaceFinder

TEXT = """\
# first
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    maesh.containo.us/retry-attempts: "x"
spec:
  ports:
    - port: 80
    - name: b
      port: 81
---
apiVersion: v1
kind: List
items:
  - kind: HTTPRoute
    spec:
      rules:
        - matches: []
        - matches:
            - path: {value: /}
  - kind: HTTPRoute
"""


@pytest.fixture
def find(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)

    def find(origin, text="", field=""):
        place = PlaceFinder().find(f"{path} {origin}" if origin else str(path), text, field)
        assert place.file == str(path)
        return place.line

    return find


@pytest.mark.parametrize(
    ("origin", "text", "field", "line"),
    [
        ("", "cannot be read: x", "", 0),
        ("document 1 line 2", "", "", 2),
        ("document 1 line 2", "annotation maesh.containo.us/retry-attempts: no", "", 7),
        ("document 1 line 2", "annotation retry-attempts: no", "", 7),
        ("document 1 line 2", "annotation other: no", "", 6),
        ("document 1 line 2", "port 81: it has no server", "", 11),
        ("document 1 line 2", "Service 'web' is not used: spec.ports[1].name: no", "", 11),
        ("document 1 line 2", "metadata.naem: unknown field; did you mean name?", "", 4),
        ("document 2 line 14 items[0]", "", "", 17),
        ("document 2 line 14 items[0]", "rules[1]: no", "", 21),
        ("document 2 line 14 items[0]", "no", "spec.rules[1].matches[0]", 22),
        ("document 2 line 14 items[0]", "no", "spec.rules[9]", 19),
        ("document 2 line 14 items[1]", "no", "", 23),
        ("document 2 line 14 items[9]", "no", "", 14),
    ],
)
def test_the_field_that_a_finding_names_is_found(find, origin, text, field, line):
    assert find(origin, text, field) == line


def test_large_documents_are_not_searched(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"a:\n  b: 1\nc: {'x' * DOCUMENT_LIMIT_BYTES}\n")
    assert PlaceFinder().find(f"{path} document 1 line 1", field="a.b") == Place(str(path), 1)


@pytest.mark.parametrize("content", [None, b"a: [", b"\xff", b"a: &x [*x]", b"[" * 100_000])
def test_a_file_that_has_changed_has_the_line_of_the_object(tmp_path, content):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    assert PlaceFinder().find(f"{path} document 1 line 7", field="a.b").line == 7
