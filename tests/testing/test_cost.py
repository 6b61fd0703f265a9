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
        cost.main(["--requests", "10", "--turns", "1", *arguments])
    assert str(caught.value).startswith("cannot measure: ")
    assert why in str(caught.value)
