"""The codes of the core keep their places; tests/cli/check/test_cases.py finds each of them."""

from maesh_core.controller.checking.core_kinds import CORE_KINDS


def test_codes_are_in_the_families_of_their_subjects():
    for kind in CORE_KINDS:
        family = kind.code[3]
        assert kind.code[:3] == "MSH"
        assert family in "123"
        assert kind.kinds == (("Service",) if family == "2" and kind.patterns else ())


def test_an_error_is_what_is_refused():
    assert {kind.severity for kind in CORE_KINDS} == {"error", "warning", "notice"}
