"""`maesh version`: the same report as text and as JSON."""

import json
import platform
from importlib.metadata import version

from maesh_core import engine
from maesh_core.cli.app import run_command_line


def test_json_has_the_versions_of_maesh_its_engine_and_its_plugins(capsys, stamp):
    assert run_command_line(["version", "--json"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "maesh": version("maesh"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "engine": {"form": engine.form, "reason": engine.reason},
        "plugins": [{"name": "stamp", "distribution": "acme-stamp", "version": "1.0"}],
    }


def test_text_and_json_say_the_same(capsys, stamp):
    run_command_line(["version"])
    text = capsys.readouterr().out
    run_command_line(["version", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert all(report[name] in text for name in ("maesh", "python", "platform"))
    assert report["engine"]["form"] in text
    assert [plugin["name"] in text for plugin in report["plugins"]] == [True]
