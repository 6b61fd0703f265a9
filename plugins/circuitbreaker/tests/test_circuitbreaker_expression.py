"""The language of breakers: what it says, and where it stops to be one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_circuitbreaker.expression import CODES, DEPTH_LIMIT, ERRORS, LATENCY, OPERATORS, TEXT_LIMIT, Parser

VALUES = {(ERRORS, ()): 0.3, (LATENCY, (50.0,)): 100, (CODES, (500, 600, 0, 600)): 0.25}


def is_met(text):
    return Parser(text).parse()(VALUES.__getitem__)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("NetworkErrorRatio() > 0.2", True),
        ("NetworkErrorRatio() > 0.3", False),
        ("NetworkErrorRatio() >= 0.3", True),
        ("NetworkErrorRatio()<.5", True),
        ("LatencyAtQuantileMS(50.0) == 100", True),
        ("LatencyAtQuantileMS( 50.0 )!=100", False),
        ("ResponseCodeRatio(500, 600, 0, 600) <= 0.25", True),
        ("ResponseCodeRatio(500,600,0,600) > 0.25 || NetworkErrorRatio() > 0.2", True),
        ("ResponseCodeRatio(500,600,0,600) > 0.25 && NetworkErrorRatio() > 0.2", False),
        ("NetworkErrorRatio() > 0.2 || NetworkErrorRatio() > 0.9 && NetworkErrorRatio() > 0.9", True),
        ("(NetworkErrorRatio() > 0.2 || NetworkErrorRatio() > 0.9) && NetworkErrorRatio() > 0.9", False),
        ("((NetworkErrorRatio() > 0.2))", True),
        ("\n\tNetworkErrorRatio()\n>\n0.2 ", True),
    ],
)
def test_an_expression_means_what_it_does_in_traefik(text, met):
    assert is_met(text) is met


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, f"expected one of {ERRORS}, {CODES}, {LATENCY}, found the end"),
        ("networkerrorratio() > 0.5", 1, "found 'networkerrorratio'"),
        ("NetworkErrorRatio > 0.5", 19, "expected '(', found '>'"),
        ("NetworkErrorRatio(1) > 0.5", 19, "expected ')', found '1'"),
        ("NetworkErrorRatio() > 1", 23, "expected a number such as 0.5, found '1'"),
        ("NetworkErrorRatio() > -0.5", 23, "expected a number such as 0.5, found '-'"),
        ("NetworkErrorRatio()", 20, "expected one of > >= < <= == !=, found the end"),
        ("NetworkErrorRatio() = 0.5", 21, "one of > >="),
        ("0.5 < NetworkErrorRatio()", 1, "found '0.5'"),
        ("!(NetworkErrorRatio() > 0.5)", 1, "found '!'"),
        ("LatencyAtQuantileMS(50) > 100", 21, "a number such as 0.5"),
        ("LatencyAtQuantileMS(50.0) > 100.0", 29, "a number such as 500"),
        ("ResponseCodeRatio(500, 600, 0) > 0.5", 30, "expected ',', found ')'"),
        ("ResponseCodeRatio(500, 600, 0, 600.0) > 0.5", 32, "a number such as 500"),
        ("(NetworkErrorRatio() > 0.5", 27, "expected ')', found the end"),
        ("NetworkErrorRatio() > 0.5)", 26, "expected the end, found ')'"),
        ("NetworkErrorRatio() > 0.5 &&", 29, "found the end"),
        ("NetworkErrorRatio() > 0.5 & NetworkErrorRatio() > 0.5", 27, "expected the end, found '&'"),
        ("NetworkErrorRatio() > 0.5 NetworkErrorRatio() > 0.5", 27, "expected the end, found"),
        ("ResponseCodeRatio(5000000000, 600, 0, 600) > 0.5", 19, "a number such as 500"),
        ("NetworkErrorRatio() > ٠.٥", 23, "a number such as 0.5"),
        ("(" * (DEPTH_LIMIT + 1) + "NetworkErrorRatio() > 0.5" + ")" * (DEPTH_LIMIT + 1), DEPTH_LIMIT + 1, "one of"),
        ("NetworkErrorRatio() > 0.5" + " " * TEXT_LIMIT, TEXT_LIMIT + 1, "may have at most 4096 characters"),
    ],
)
def test_what_is_none_is_told_with_its_column(text, column, words):
    with pytest.raises(ValueError) as caught:
        Parser(text).parse()
    assert str(caught.value).startswith(f"column {column}: ")
    assert words in str(caught.value)


NUMBERS = st.integers(0, 999)
METRICS = st.sampled_from([ERRORS + "()", LATENCY + "(50.0)", CODES + "(500, 600, 0, 600)"])


@st.composite
def conditions(draw, depth=3):
    """Draw an expression, and whether it is met."""
    kind = draw(st.sampled_from(["comparison", "||", "&&", "()"])) if depth else "comparison"
    if kind == "comparison":
        metric, word = draw(METRICS), draw(st.sampled_from(sorted(OPERATORS)))
        value = draw(NUMBERS)
        literal = str(value) if metric.startswith(LATENCY) else f"{value / 1000:.3f}"
        (found,) = (value for (name, _), value in VALUES.items() if metric.startswith(name))
        return f"{metric} {word} {literal}", OPERATORS[word](found, float(literal))
    if kind == "()":
        text, met = draw(conditions(depth - 1))
        return f"({text})", met
    parts = [draw(conditions(depth - 1)) for _ in range(2)]
    met = any(each for _, each in parts) if kind == "||" else all(each for _, each in parts)
    return f" {kind} ".join(f"({text})" for text, _ in parts), met


@given(conditions())
def test_any_expression_is_read_as_python_would(condition):
    text, met = condition
    assert is_met(text) is met


@given(st.text(alphabet="NetworkErrorRatio()<>=&|0.5, !\n(", max_size=60) | st.text(max_size=30))
def test_any_text_is_a_condition_or_an_error(text):
    with contextlib.suppress(ValueError):
        assert is_met(text) in (True, False)
