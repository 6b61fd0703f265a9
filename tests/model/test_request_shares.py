"""Percent or a fraction in, a share or an error out."""

import pytest

from maesh_core.errors import ConfigurationError
from maesh_core.model.request_shares import read_request_share


@pytest.mark.parametrize(
    ("percent", "fraction", "share"),
    [(None, None, 1), (0, None, 0), (12.5, None, 0.125), (None, (0, 5), 0), (None, (1, 8), 0.125), (None, (3, 3), 1)],
)
def test_a_share_is_given_in_percent_or_as_a_fraction(percent, fraction, share):
    assert read_request_share(percent, fraction) == share


@pytest.mark.parametrize(
    ("percent", "fraction", "problem"),
    [(1, (1, 2), "percent and fraction"), (None, (None, 2), "the numerator is missing"), (None, (3, 2), "above")],
)
def test_what_is_no_share_is_an_error(percent, fraction, problem):
    with pytest.raises(ConfigurationError, match=problem):
        read_request_share(percent, fraction)
