import pytest

from maesh_core.controller.api.clients import (
    CONNECTION_LIMIT,
    CONNECTION_MINIMUM,
    RESERVED_DESCRIPTORS,
    choose_connection_limit,
)
from maesh_core.controller.api.pulls import HELD_PULLS_LIMIT
from maesh_core.plain_http.server import ACCEPT_BATCH


@pytest.mark.parametrize(
    ("open_files", "limit"),
    [
        (None, CONNECTION_LIMIT),
        (10**6, CONNECTION_LIMIT),
        (1024, 1024 - RESERVED_DESCRIPTORS),
        (100, CONNECTION_MINIMUM),
    ],
)
def test_descriptors_are_left_for_the_controllers_own_work(open_files, limit):
    assert choose_connection_limit(open_files) == limit


def test_every_pull_that_may_be_held_has_a_connection():
    assert CONNECTION_LIMIT > HELD_PULLS_LIMIT


def test_what_is_accepted_and_not_counted_yet_takes_the_smaller_part_of_the_descriptors_that_are_kept():
    assert 4 * ACCEPT_BATCH < RESERVED_DESCRIPTORS / 2
