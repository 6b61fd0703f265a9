"""The kinds of findings of all plugins together."""

import pytest

from maesh_core.controller.checking.catalogue import FindingCatalogue
from maesh_core.controller.checking.core_kinds import CORE_KINDS
from maesh_core.errors import PluginError
from maesh_core.plugin_system.policy_checks import FindingKind


class Checker:
    def __init__(self, *kinds):
        self.finding_kinds = kinds

    def __str__(self):
        return "plugin acme"

    def check(self, view):
        return ()


def build(code="ACME101", **options):
    return FindingKind(**({"code": code, "severity": "notice", "title": "a", "hint": "b"} | options))


def test_the_codes_of_the_core_are_unique_and_described():
    assert len({kind.code for kind in CORE_KINDS}) == len(CORE_KINDS)
    assert all(kind.title and kind.hint and not kind.title.endswith(".") for kind in CORE_KINDS)


def test_a_plugin_names_its_own_findings():
    mine = build(patterns=("it is odd",), kinds=("Widget",))
    catalogue = FindingCatalogue([Checker(mine)])
    assert catalogue.get("ACME101") is mine
    assert catalogue.classify("Widget", "it is odd", is_error=False) is mine
    assert catalogue.classify("Other", "it is odd", is_error=False).code == "MSH199"
    assert catalogue.classify("Widget", "it is odd, very", is_error=True).code == "MSH198"


def test_plugins_can_share_a_kind():
    assert FindingCatalogue([Checker(build()), Checker(build())]).get("ACME101") == build()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (build("MSH101"), "plugin acme has findings with the code MSH101, which others have, too"),
        (build("acme"), "plugin acme has findings with the code 'acme', which is not like ACME101"),
        (build(patterns=("(",)), "plugin acme has an invalid pattern for ACME101: "),
    ],
)
def test_other_codes_are_refused(kind, text):
    with pytest.raises(PluginError) as caught:
        FindingCatalogue([Checker(kind)])
    assert str(caught.value).startswith(text)


def test_what_cannot_be_read_is_an_invalid_object():
    found = FindingCatalogue([]).classify("Service", "Service: expected `str`", is_error=True, is_problem=True)
    assert found.code == "MSH104"
