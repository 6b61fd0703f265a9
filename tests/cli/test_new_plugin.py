"""`maesh plugins new`: a name in, a folder or a refusal out. What it writes is run in test_third_party_plugin.py."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from maesh_core.cli.app import run_command_line
from maesh_core.cli.new_plugin import TEMPLATES, Kind, render_next_steps, write_plugin
from maesh_core.errors import MaeshError


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_template_with_tests(kind):
    assert list((TEMPLATES / kind.value).glob("tests/test_*.py"))
    assert (TEMPLATES / kind.value / "README.md").exists()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", ["greet", "acme-greet-2", "my-annotations"])
def test_nothing_of_the_templates_name_is_left(tmp_path, kind, name):
    write_plugin(name, kind, tmp_path / "it")
    files = [path for path in (tmp_path / "it").rglob("*") if path.is_file()]
    package = f"maesh_{name.replace('-', '_')}"
    assert tmp_path / "it" / package / "__init__.py" in files
    for file in files:
        text = file.read_text()
        assert not re.search("blank", text + str(file.relative_to(tmp_path)), re.IGNORECASE)
        if file.suffix == ".py":
            ast.parse(text)
    project = tomllib.loads((tmp_path / "it" / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["maesh.plugins"] == {name: f"{package}:PLUGIN"}
    assert (tmp_path / "it" / ".gitignore") in files


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Greet", "cannot be a flag"),
        ("no-greet", "cannot be a flag"),
        ("../greet", "cannot be a flag"),
        ("", "cannot be a flag"),
        ("http-port", "is a flag of maesh itself"),
        ("acl", "another plugin has"),
        ("core", "its package cannot have"),
        ("greet-", "its package cannot have"),
        ("traffic-type", "an annotation of the mesh itself has"),
    ],
)
def test_an_unusable_name_is_refused(tmp_path, monkeypatch, capsys, name, why):
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["plugins", "new", name]) == 1
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind"), [("tcp", Kind.PROTOCOL), ("protocol", Kind.PROTOCOL), ("sequence", Kind.MIDDLEWARE)]
)
def test_a_name_that_the_kind_cannot_have_is_refused(tmp_path, name, kind):
    with pytest.raises(MaeshError, match="is a name that"):
        write_plugin(name, kind, tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["my-blank", "blanket", "blank"])
def test_a_name_may_have_the_templates_in_it(tmp_path, name):
    write_plugin(name, Kind.MIDDLEWARE, tmp_path / "it")
    package = f"maesh_{name.replace('-', '_')}"
    assert f'"{name}"' in (tmp_path / "it" / package / "controller.py").read_text()
    for file in (tmp_path / "it").rglob("*.py"):
        ast.parse(file.read_text())


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(MaeshError, match="already exists"):
        write_plugin("greet", Kind.MIDDLEWARE, tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MaeshError, match="cannot be written"):
        write_plugin("greet", Kind.MIDDLEWARE, tmp_path / "file" / "greet")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_folder_is_named_for_the_plugin_and_the_next_steps_for_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["plugins", "new", "greet", "--kind", "topology"]) == 0
    assert Path("maesh-greet/maesh_greet/controller.py").exists()
    written = capsys.readouterr().out
    assert written == render_next_steps("greet", Path("maesh-greet")) + "\n"
    assert "pip install -e 'maesh-greet[test]'" in written
