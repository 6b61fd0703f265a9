"""The measuring of a plugin's cost measures, and says so when it cannot."""

import re

import pytest

from maesh_core.testing import cost

pytestmark = pytest.mark.integration


def test_it_tells_what_a_request_costs_without_and_with_the_annotations(capsys):
    cost.main(["--requests", "200", "--turns", "1", "scheme=http"])
    found = re.fullmatch(
        r"without +([\d.]+) µs.*\nwith +([\d.]+) µs\nadded +(-?[\d.]+) µs, median of 1 pairs of turns.*\n",
        capsys.readouterr().out,
    )
    bare, annotated, added = map(float, found.groups())
    assert bare > 0
    assert annotated - bare == pytest.approx(added, abs=0.011)


@pytest.mark.parametrize(
    ("arguments", "why"), [(["scheme=gopher"], 'answer: b"HTTP/1.1 404'), (["--no-such"], "no-such")]
)
def test_what_is_not_measured_is_said_in_one_line(arguments, why):
    with pytest.raises(SystemExit) as caught:
        cost.main(["--requests", "16", "--turns", "1", *arguments])
    assert str(caught.value).startswith("cannot measure: ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--greet", "greeting"], "'greeting' is not ANNOTATION=VALUE"),
        (["--log-level", "debug", "a=1"], "'debug' is not ANNOTATION=VALUE"),
        (["--requests", "5", "a=1"], "16 requests at least"),
        (["--turns", "0", "a=1"], "there must be a turn"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, why, capsys):
    with pytest.raises(SystemExit) as caught:
        cost.main(arguments)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


def test_annotations_and_flags_may_stand_in_any_order(monkeypatch):
    seen = []

    async def note(flags, annotations, **_):
        seen.append((flags, annotations))
        return ""

    monkeypatch.setattr(cost, "compare", note)
    cost.main(["a=1", "--greet", "b=2=3", "--set", "greet.header=X", "--log-level=debug"])
    assert seen == [(["--greet", "--log-level=debug", "--set", "greet.header=X"], {"a": "1", "b": "2=3"})]
