"""The contract of a guard, and of a plugin that requires a setting."""

import pytest

from maesh_testing import PluginContract, cost

ON = ("--door", "--set", "door.key=sesame")


class TestContract(PluginContract):
    name = "door"
    required_settings = {"key": "sesame"}
    annotations = {"door": "locked"}
    bad_annotations = ({"door": "open"},)
    request_headers = {"X-Key": "sesame"}
    refused_status = 401


class TestRefusedContract(PluginContract):
    name = "door"
    required_settings = {"key": "sesame"}
    annotations = {"door": "locked"}
    bad_annotations = ({"door": "open"},)
    expected_status = 401


def test_what_a_guard_costs_can_be_measured_with_the_header_that_it_wants(capsys):
    words = ["--requests", "16", "--turns", "1", *ON, "door=locked"]
    cost.main([*words, "--header", "X-Key: sesame"])
    assert "added" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="401"):
        cost.main(words)
