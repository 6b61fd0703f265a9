"""Each kind of finding is in the documentation, and has a case in which it is found."""

import re
from pathlib import Path

import pytest

from maesh_core.cli.check.manifests import check_manifests
from maesh_core.controller.checking.catalogue import FindingCatalogue
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import SHIPPED, list_installed
from maesh_core.settings.check import CheckSettings
from tests.cli.check.cases import CASES, TEXTS, TO_WEB, WEB, write_route
from tests.cli.check.faulty_plugin import INSTALLED

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "check.md").read_text()
FALLBACKS = ("MSH198", "MSH199", "MSH298", "MSH299")
OTHERS = {"MSH101", "MSH112", "MSH113"}
"""Codes whose cases are tests of their own, here and in tests/controller/checking/test_collecting.py."""


@pytest.fixture(scope="module")
def catalogue():
    own = tuple(each for each in list_installed() if each.name in SHIPPED)
    plugins = load_plugins("controller", own, {})
    return FindingCatalogue(plugins.collect("maesh_policy_checkers"), plugins.describe)


def check(paths, *, enabled=()):
    shipped = [each for each in list_installed() if each.name in SHIPPED]
    plugins = tuple(each for each in (*shipped, INSTALLED) if each.is_default or each.name in enabled)
    settings = {"egress": {"allow": "*.example.com"}} if "egress" in enabled else {}
    return check_manifests(
        CheckSettings(paths=tuple(map(str, paths)), plugins=plugins, plugin_settings=settings)
    ).findings


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """Check all cases with the same plugins at once, each in its own namespace; return findings by code of case."""
    found = {code: [] for code in CASES}
    for flags in sorted({case.flags for case in CASES.values()}):
        folder = tmp_path_factory.mktemp("cases")
        for number, (code, case) in enumerate(CASES.items()):
            if case.flags == flags:  # with addresses of its own
                text = case.manifests.replace("shop", code.lower()).replace("10.0.0.", f"10.0.{number}.")
                (folder / f"{code}.yaml").write_text(text.replace("10.1.0.", f"10.1.{number}."))
        for each in check([folder], enabled=flags):
            found[each.file.rpartition("/")[2].removesuffix(".yaml")].append(each)
    return found


@pytest.mark.parametrize("code", sorted(CASES))
def test_each_case_yields_the_finding_with_its_code(findings, code):
    case, found = CASES[code], findings[code]
    mine = [each for each in found if each.code == code]
    assert mine, [(each.code, each.text) for each in found]
    if case.subject:
        subjects = {f"{each.kind} {each.name}@{each.namespace}" for each in mine}
        assert case.subject.replace("shop", code.lower()) in subjects
    if case.line:
        assert case.line in {each.line for each in mine}
    assert [(each.code, each.text) for each in found if each.code in FALLBACKS and each.code != code] == []


def test_a_problem_of_a_rule_with_a_name_has_the_code_of_its_kind(tmp_path):
    for number, kind in enumerate(("sessionName: ' '", "sessionName: a")):
        rule = f"{{name: checkout, sessionPersistence: {{type: Header, {kind}}}, backendRefs: [{TO_WEB}]}}"
        (tmp_path / f"{number}.yaml").write_text((WEB + write_route(rule)).replace("shop", f"n{number}"))
    (found,) = check([tmp_path])
    assert (found.code, found.text.partition(": ")[0], found.namespace) == ("MSH607", "rule checkout", "n0")


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_the_text_has_the_code(catalogue, code):
    kind, text, is_error = TEXTS[code]
    assert catalogue.classify(kind, text, is_error=is_error).code == code


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff")
    assert [(each.code, each.text) for each in check([path])] == [("MSH101", "not UTF-8: byte 0xff in line 1")]


def test_a_folder_without_manifests_is_an_error(tmp_path):
    (tmp_path / "readme.md").write_text("x")
    (found,) = check([tmp_path])
    assert (found.code, found.severity, found.text) == ("MSH113", "error", "no file in it ends in .json, .yaml, .yml")
    nested = tmp_path / "nested"
    nested.mkdir()
    (nested / "a.yaml").write_text(CASES["MSH205"].manifests)
    (found,) = check([tmp_path])
    assert (found.code, found.text.partition("; ")[2]) == ("MSH113", "folders in it have manifests: -R reads them too")
    assert {each.code for each in check([tmp_path, nested])} == {"MSH113", "MSH205"}


def test_paths_without_anything_for_the_mesh_are_an_error(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n")
    codes = [(each.code, each.severity) for each in check([tmp_path])]
    assert codes == [("MSH107", "notice"), ("MSH113", "error")]
    path.write_text(CASES["MSH205"].manifests)
    assert "MSH113" not in {each.code for each in check([tmp_path])}


def test_every_kind_has_a_case_and_its_place_in_the_documentation(catalogue):
    codes = [kind.code for kind in catalogue.kinds]
    assert sorted({*CASES, *TEXTS, *OTHERS}) == codes
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == codes
