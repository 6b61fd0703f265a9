"""The setting `status`."""

import pytest
from maesh_access_log.statuses import parse_statuses


def test_statuses_and_ranges_are_joined():
    assert parse_statuses(["200", " 499-501 "]) == {200, 499, 500, 501}
    assert parse_statuses(()) == frozenset()


@pytest.mark.parametrize("text", ["", "5xx", "99", "600", "500-400", "400-", "400-999", "\u0665\u0660\u0660"])
def test_what_is_no_status_is_refused(text):
    with pytest.raises(ValueError, match="is not a status or a range"):
        parse_statuses([text])
