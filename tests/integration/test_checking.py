"""`maesh check` as a process, as a pipeline runs it."""

import json

import pytest

from tests.cli.check.cases import GROUP, WEB, write_service, write_target

pytestmark = pytest.mark.integration


def test_a_pipeline_gets_a_status_and_sarif(run_maesh, tmp_path):
    broken = write_service('maesh.containo.us/retry-attempts: "three"') + GROUP + write_target()
    (tmp_path / "a.yaml").write_text(broken)
    command = run_maesh("check", "--acl", "--format", "sarif", str(tmp_path))
    assert (command.status, command.stderr) == (3, "")
    results = json.loads(command.stdout)["runs"][0]["results"]
    assert {"MSH201", "MSH502"} <= {each["ruleId"] for each in results}
    (tmp_path / "a.yaml").write_text(WEB)
    assert run_maesh("check", str(tmp_path), "--fail-on", "notice").status == 0
