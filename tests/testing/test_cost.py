"""The measuring of a plugin's cost measures, and says so when it cannot."""

import re

import pytest

from maesh_testing import cost

pytestmark = pytest.mark.integration


def test_it_measures_what_a_request_costs_without_and_with_the_annotations(capsys):
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
        (["--header", "X-Key", "a=1"], "--header: 'X-Key' is not NAME: VALUE"),
        (["--header", "X Key: 1", "a=1"], "--header: 'X Key: 1'"),
        (["--env", "MAESH_GREET", "a=1"], "--env: 'MAESH_GREET' is not NAME=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, why, capsys):
    with pytest.raises(SystemExit) as caught:
        cost.main(arguments)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


def test_annotations_and_flags_may_stand_in_any_order(monkeypatch):
    seen = []

    async def note(flags, annotations, *_):
        seen.append((flags, annotations))
        return ""

    monkeypatch.setattr(cost, "compare", note)
    cost.main(["a=1", "--greet", "b=2=3", "--set", "greet.header=X", "--log-level=debug"])
    assert seen == [(["--greet", "--log-level=debug", "--set", "greet.header=X"], {"a": "1", "b": "2=3"})]


def test_headers_and_variables_reach_the_requests_and_the_mesh(monkeypatch):
    seen = []

    async def note(flags, annotations, load, variables):
        seen.append((load, {name: text for name, text in variables.items() if "COST" in name}))
        return ""

    monkeypatch.setattr(cost, "compare", note)
    monkeypatch.setenv("MAESH_COST_ONE", "1")
    monkeypatch.setenv("COST_TWO", "not the mesh's")
    words = ["--header", "X-Key: sesame", "--header=X-Other:1", "--env", "COST_THREE=3=4"]
    cost.main([*words, "--requests", "16", "--turns", "1", "a=1"])
    load = cost.Load(16, 1, b"X-Key: sesame\r\nX-Other: 1\r\n")
    assert seen == [(load, {"MAESH_COST_ONE": "1", "COST_THREE": "3=4"})]


def test_a_request_is_sent_with_its_headers_and_a_variable_is_a_setting_of_the_mesh(capsys):
    cost.main(["--requests", "16", "--turns", "1", "--header", "X-Key: sesame", "scheme=http"])
    assert "without " in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"(?s)cannot measure: .*nobody"):
        cost.main(["--requests", "16", "--turns", "1", "--env", "MAESH_PLUGINS=nobody", "scheme=http"])
