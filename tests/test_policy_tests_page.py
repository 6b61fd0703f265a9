"""The page about tests and reviews of policy: its scenario is valid, its fields are complete, its examples pass."""

import asyncio
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from maesh_core.cli.simulate.running import run_scenarios
from maesh_core.controller.simulating.scenarios import (
    ClientPart,
    Expectation,
    ExpectedOutcome,
    RequestPart,
    ScenarioFile,
    parse_scenario,
)
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings.states import SimulateSettings

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/policy-tests.md").read_text()
EXAMPLES = sorted((ROOT / "examples/policy").glob("*.yaml"))


def list_fields(*types):
    return {field.encode_name for type_ in types for field in msgspec.structs.fields(type_)}


def test_the_scenario_of_the_page_is_valid():
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "requests:" in block]
    scenario = parse_scenario(text, "policy.yaml")
    assert (scenario.manifests, scenario.plugins, len(scenario.cases)) == (("../deploy",), ("acl",), 8)


def test_every_field_and_verdict_is_documented():
    named = set(re.findall(r"`([\w-]+)`", PAGE)) | set(re.findall(r"^(\w+):", PAGE, re.MULTILINE))
    assert list_fields(RequestPart, Expectation) - named == set()
    assert list_fields(ScenarioFile) - named == set()
    assert {field for field in list_fields(ClientPart) if f"{{{field}: " not in PAGE} == set()
    assert set(get_args(ExpectedOutcome)) - named == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_case_of_the_examples_passes(path):
    default = tuple(each for each in list_installed() if each.is_default)
    (result,) = asyncio.run(run_scenarios(SimulateSettings(plugins=default), [str(path)]))
    assert result.cases
    assert [case.failures for case in result.failed] == []
