"""`maesh convert NAME`: manifests in, YAML with notes out, and what failed on standard error."""

import pytest
import yaml

from maesh_core.cli.app import run_command_line
from maesh_core.cli.convert import render_conversion
from maesh_core.plugin_system.converters import Conversion, ConvertedObject

MODULE = "acme_names"
CONVERTER = """
from maesh_core.plugin import Conversion, ConvertedObject, ObjectKey

class Converter:
    kinds = ()

    def convert(self, view, resources):
        names = [each.key.name for each in resources]
        ports = [view.build_service(each.key).ports[0].number for each in resources]
        failures = ("one failed",) if "bad" in names else ()
        value = {"kind": "Names", "names": names, "ports": ports}
        return Conversion(objects=(ConvertedObject(value=value),), notes=("a note",), failures=failures)

CONVERTER = Converter()
"""


def write_service(name):
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{ports: [{{port: 80}}]}}
"""


@pytest.fixture
def converter(install):
    files = {"acme_names.py": CONVERTER}
    install("acme-names", [("names", "acme_names:PLUGIN")], files, converters=[("names", f"{MODULE}:CONVERTER")])


@pytest.mark.usefixtures("converter")
def test_it_prints_what_the_converter_makes_of_the_manifests(tmp_path, capsys):
    tmp_path.joinpath("a.yaml").write_text(write_service("one"))
    tmp_path.joinpath("below").mkdir()
    tmp_path.joinpath("below", "b.yaml").write_text(write_service("two"))
    assert run_command_line(["convert", "names", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# a note\n---\nkind: Names\n")
    assert yaml.safe_load(out)["names"] == ["one"]
    assert run_command_line(["convert", "names", "-R", str(tmp_path)]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"kind": "Names", "names": ["one", "two"], "ports": [80, 80]}


@pytest.mark.usefixtures("converter")
def test_failures_and_errors_of_manifests_go_to_standard_error(tmp_path, capsys):
    path = tmp_path / "a.yaml"
    path.write_text(write_service("bad") + "---\nkind: [")
    assert run_command_line(["convert", "names", str(path)]) == 1
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out)["names"] == ["bad"]
    assert "one failed" in captured.err
    assert "a.yaml document 2" in captured.err


@pytest.mark.usefixtures("converter")
def test_a_path_that_does_not_exist_ends_it(tmp_path, capsys):
    assert run_command_line(["convert", "names", str(tmp_path / "gone")]) == 1
    assert "gone" in capsys.readouterr().err


def test_a_converter_that_cannot_be_imported_is_named(install, tmp_path, capsys):
    install("acme-names", [("names", "acme_names:PLUGIN")], {}, converters=[("names", "acme_gone:CONVERTER")])
    tmp_path.joinpath("a.yaml").write_text(write_service("one"))
    assert run_command_line(["convert", "names", str(tmp_path)]) == 1
    assert (
        "plugin 'names' (acme-names 1.0): its converter acme_gone:CONVERTER cannot be imported"
        in capsys.readouterr().err
    )


def test_a_note_is_a_comment_however_long_it_is():
    text = render_conversion(Conversion(objects=(ConvertedObject(value={"a": 1}, notes=("long " * 60, "x\ny")),)))
    *comments, last = text.splitlines()
    assert all(line.startswith("# ") and len(line) <= 120 for line in comments)
    assert last == "a: 1"


def test_without_an_object_to_convert_it_says_so(install, tmp_path, capsys):
    empty = CONVERTER.replace("Conversion(objects", "Conversion() if True else Conversion(objects")
    files = {"acme_names.py": empty}
    install("acme-names", [("names", "acme_names:PLUGIN")], files, converters=[("names", f"{MODULE}:CONVERTER")])
    tmp_path.joinpath("a.yaml").write_text(write_service("one"))
    assert run_command_line(["convert", "names", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "nothing to convert: the manifests have no objects of plugin names that it converts\n"
