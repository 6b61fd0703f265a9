"""`maesh simulate` as a user types it: scenarios that pass and fail, as text, JSON and JUnit XML."""

import json
from xml.etree import ElementTree

import pytest

from maesh_core.cli.app import run_command_line

pytestmark = pytest.mark.usefixtures("restored_logging")
SCENARIO = """
manifests: acl.yaml
plugins: [acl]
requests:
  - name: the web shop reads products
    client: acl/web
    service: products.acl
    path: /products/17
    expect: {verdict: allowed, by: TrafficTarget web-may-read, goes-to: products}
  - client: acl/guest
    service: products.acl
    expect: VERDICT
"""


@pytest.fixture
def simulate(capsys, tmp_path, pytestconfig):
    """Write a scenario beside the example of access control, and run the command; return status, output and errors."""
    (tmp_path / "acl.yaml").write_text((pytestconfig.rootpath / "examples/acl/acl.yaml").read_text())

    def run(*arguments, text=SCENARIO, verdict="denied"):
        path = tmp_path / "policy.yaml"
        path.write_text(text.replace("VERDICT", verdict))
        status = run_command_line(["simulate", str(path), *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out.replace(str(tmp_path), "."), captured.err

    return run


def test_scenarios_that_pass_are_counted(simulate):
    assert simulate() == (0, "./policy.yaml: 2 passed\n\n2 passed\n", "")


def test_a_failure_shows_both_sides_and_the_steps(simulate):
    status, out, _ = simulate(verdict="allowed")
    assert status == 3
    lines = out.splitlines()
    assert lines[0] == "./policy.yaml: 1 of 2 failed"
    assert lines[1] == "  FAILED GET / from acl/guest to acl/products (request 2)"
    assert lines[2].startswith(
        "    expected: allowed, found: denied with status 403 (denied: no TrafficTarget names guest@acl"
    )
    assert lines[3].startswith("    | client pod acl/guest-1 at 127.0.1.3")
    assert lines[-1] == "1 passed, 1 failed"


def test_json_has_every_case(simulate):
    _, out, _ = simulate("--json", verdict="allowed")
    (result,) = json.loads(out)
    passed, failed = result["cases"]
    assert (passed["failures"], passed["found"]["goesTo"]) == ([], {"acl/products:80": 1.0})
    assert (failed["client"], failed["found"]["status"], len(failed["failures"])) == ("acl/guest", 403, 1)


def test_junit_has_a_suite_for_each_file(simulate, tmp_path):
    simulate("--junit", tmp_path / "junit.xml", verdict="allowed")
    (suite,) = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [each.find("failure") is None for each in suite] == [True, False]


def test_manifests_of_the_command_replace_those_of_the_file(simulate, tmp_path):
    (tmp_path / "empty").mkdir()
    status, out, _ = simulate("--manifests", tmp_path / "empty")
    assert status == 3
    assert "found: absent" in out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("requests: []", "names no manifests"),
        ("manifests: missing\nrequests: []", "missing: no such file or folder"),
        ("manifests: acl.yaml\nplugins: [alc]\nrequests: []", "plugin 'alc' is not installed"),
        ("manifests: acl.yaml\nrequests: 7", "policy.yaml: requests: expected a list, got `int`"),
    ],
)
def test_what_cannot_be_run_is_one_line(simulate, text, problem):
    status, out, error = simulate(text=text)
    assert (status, out) == (1, "")
    assert problem in error
    assert error.count("\n") == 1
