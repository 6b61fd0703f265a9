"""`maesh check` as a user types it: which check runs, and its exit status."""

import json

import pytest

from maesh_core.cli.app import run_command_line
from maesh_testing import build_service


@pytest.fixture
def check(capsys, tmp_path, restored_logging):
    """Write a service's manifests, check them; return status, output and errors."""

    def run(*arguments, annotations=None):
        path = tmp_path / "app.json"
        items = build_service("app", [("127.0.0.9", 8080)], annotations=annotations or {})
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        status = run_command_line(["check", str(path), *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_manifests_without_a_mistake_are_fine(check):
    status, out, error = check()
    assert (status, error) == (0, "")
    assert out.splitlines()[-1] == "1 service, 2 objects: 0 errors, 0 warnings, 0 notices"


def test_an_error_makes_the_status_3(check, tmp_path):
    status, out, _ = check("--json", annotations={"retry-attempts": "three"})
    assert status == 3
    (finding,) = json.loads(out)["findings"]
    assert (finding["code"], finding["severity"], finding["name"]) == ("MSH201", "error", "app")
    assert finding["file"] == str(tmp_path / "app.json")


def test_the_lowest_severity_that_fails_can_be_chosen(check):
    annotations = {"retry-attemps": "3"}
    assert check(annotations=annotations)[0] == 0
    assert check("--fail-on", "warning", annotations=annotations)[0] == 3
    assert check("--fail-on", "warning", "--ignore-codes", "msh202", annotations=annotations)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "nothing to check: name manifests (PATH), or use --cluster"),
        (("--cluster", "manifests"), "--cluster checks the mesh that runs: omit PATH, or omit --cluster"),
        (("/nonexistent.yaml",), "/nonexistent.yaml: no such file or folder"),
        ((".", "--ignore-codes", "MSH000"), "--ignore-codes: no finding has the code 'MSH000'"),
    ],
)
def test_a_check_that_cannot_run_says_why(capsys, restored_logging, arguments, text):
    assert run_command_line(["check", *arguments]) == 1
    assert capsys.readouterr().err == f"maesh: error: {text}\n"
