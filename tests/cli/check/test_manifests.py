"""Checks of whole folders, as repositories have them."""

import gc
import json
from pathlib import Path

import pytest

from maesh_core.cli.app import run_command_line
from maesh_core.cli.check.manifests import check_manifests
from maesh_core.plugin_system.metadata import SHIPPED, list_installed
from maesh_core.settings.check import CheckSettings
from tests.cli.check.cases import GROUP, SERVICE, WEB, write_target

ROOT = Path(__file__).resolve().parents[3]
DEPLOYMENT = """
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %(name)s, namespace: shop}
spec:
  template:
    metadata: {labels: {app: %(name)s}}
    spec: {serviceAccountName: %(name)s, containers: [{name: a, ports: [{containerPort: 8080}]}]}
---
"""


@pytest.fixture
def check(capsys, tmp_path, restored_logging):
    """Write files, and check their folder; return the status and the document."""

    def run(files, *flags):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        status = run_command_line(["check", str(tmp_path), "--json", *flags])
        captured = capsys.readouterr()
        assert captured.err == ""
        return status, json.loads(captured.out)

    return run


def list_codes(document):
    return [(each["code"], each["name"]) for each in document["findings"]]


def test_a_repository_has_workloads_and_no_pods(check):
    workloads = DEPLOYMENT % {"name": "web"} + DEPLOYMENT % {"name": "client"}
    status, document = check({"web.yaml": SERVICE % "" + workloads, "access.yaml": GROUP + write_target()}, "--acl")
    assert (status, list_codes(document)) == (0, [("MSH512", "group")])


def test_real_pods_replace_those_of_workloads(check):
    status, document = check(
        {"web.yaml": WEB + DEPLOYMENT % {"name": "client"}, "a.yaml": GROUP + write_target()}, "--acl"
    )
    assert (status, list_codes(document)) == (0, [("MSH512", "group"), ("MSH502", "target")])


def test_findings_are_sorted_by_file_and_line(check):
    broken = "a: [\n"
    status, document = check({"b.yaml": WEB + broken, "a.yaml": broken})
    assert status == 3
    places = [(each["file"].rpartition("/")[2], each["line"]) for each in document["findings"]]
    assert places == sorted(places)
    assert {name for name, _ in places} == {"a.yaml", "b.yaml"}


def test_subfolders_are_read_if_they_are_asked_for(check):
    assert list_codes(check({"sub/a.yaml": WEB})[1]) == [("MSH113", "")]
    status, document = check({"sub/a.yaml": WEB}, "-R")
    assert (status, document["services"]) == (0, 1)


def test_the_garbage_collector_runs_again_after_a_check(check):
    assert gc.isenabled()
    check({"a.yaml": WEB})
    assert gc.isenabled()


def test_ignored_namespaces_are_not_checked(check):
    assert check({"a.yaml": SERVICE % ""}, "--ignore-namespaces", "shop")[1]["services"] == 0


def test_the_examples_have_no_errors():
    paths = (ROOT / "examples").glob("*/*.yaml")
    folders = sorted({str(path.parent) for path in paths if path.parent.name != "policy"})  # scenarios
    plugins = tuple(
        each for each in list_installed() if each.name in SHIPPED and (each.is_default or each.name == "acl")
    )
    result = check_manifests(CheckSettings(paths=tuple(folders), plugins=plugins))
    assert result.services > 20
    assert [each for each in result.findings if each.severity == "error"] == []
