"""What holds for every plugin holds for this one."""

import pytest

from maesh_testing import PluginContract

SETTINGS = {
    "format": "json",
    "file": "/dev/null",
    "services": "annotated",
    "status": "400-599,200",
    "min-duration": "500ms",
    "errors-only": "true",
    "sample": "0.5",
    "headers": "User-Agent,X-Request-Id",
    "client-pods": "true",
}


class TestContract(PluginContract):
    name = "access-log"
    settings = SETTINGS
    annotations = {"access-log": "true"}
    bad_annotations = ({"access-log": "sometimes"},)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("format=%{RequestPaht}", "did you mean RequestPath?"),
        ("status=5xx", "'5xx' is not a status"),
        ("file=/nothing/access.log", "cannot open /nothing/access.log: No such file or directory"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_the_start(run_maesh, tmp_path, setting, problem):
    command = run_maesh("up", tmp_path, "--access-log", "--set", f"access-log.{setting}")
    assert command.status == 1
    assert problem in command.stderr
    assert "Traceback" not in command.stderr
