from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from maesh_core.controller.controller_status import ControllerStatus, find_version


def build_engine(**changes):
    return SimpleNamespace(**{"is_ready": True, "revision": "e.1", "problems": {"pods": "403"}, **changes})


def test_a_controller_without_a_cluster_leads_and_says_its_version_and_its_plugins():
    report = ControllerStatus("me", build_engine(), None, {"plugin x": "odd"}, plugins=["smi", "acl"]).report()
    assert (report.leads, report.leader, report.ready) == (True, "me", True)
    assert (report.version, report.plugins) == (version("maesh"), ("acl", "smi"))
    assert report.problems == {"plugin x": "odd", "pods": "403"}


def test_a_controller_without_contact_to_its_cluster_is_not_ready():
    election = SimpleNamespace(is_leader=False, holder="other")
    cluster: Any = SimpleNamespace(is_current=False, election=election)
    report = ControllerStatus("me", build_engine(), cluster).report()
    assert (report.ready, report.leads, report.leader) == (False, False, "other")


def test_the_version_is_looked_up_once():
    assert find_version() is find_version()
