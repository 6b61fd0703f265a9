"""Which records are logged."""

import itertools

import pytest
from maesh_access_log import AccessLogSettings
from maesh_access_log.filters import build_filter, is_error

from .records import build_connection, build_record


def select(record, draw=lambda: 0.5, **settings):
    selects = build_filter(AccessLogSettings(**settings), draw)
    return selects is None or selects(record)


def test_without_filters_there_is_nothing_to_decide():
    assert build_filter(AccessLogSettings()) is None
    assert build_filter(AccessLogSettings(sample=1.0)) is None
    assert build_filter(AccessLogSettings(errors_only=True, sample=1.0)) is None


@pytest.mark.parametrize(
    ("record", "is_one"),
    [
        (build_record(), False),
        (build_record(status=399), False),
        (build_record(status=400), True),
        (build_record(status=499, reason="the client left"), True),
        (build_record(status=503), True),
        (build_record(grpc_status=0), False),
        (build_record(grpc_status=14), True),
        (build_record(reason="the upstream was lost during the response"), True),
        (build_connection(), False),
        (build_connection(reason="no server could be reached"), True),
        (build_connection("refused", reason="connection limit"), True),
    ],
)
def test_errors_are_known_by_status_grpc_status_or_reason(record, is_one):
    assert is_error(record) is is_one
    assert select(record, errors_only=True) is is_one


def test_a_filter_of_statuses_selects_these_alone():
    assert select(build_record(status=404), status=("400-499",))
    assert not select(build_record(status=500), status=("400-499",))
    assert not select(build_connection(), status=("400-599",))


def test_a_filter_of_durations_selects_the_slow():
    assert select(build_record(duration_s=0.5), min_duration=0.5)
    assert not select(build_record(duration_s=0.4), min_duration=0.5)


def test_one_filter_is_enough():
    both = {"status": ("500-599",), "min_duration": 1.0}
    assert select(build_record(status=500, duration_s=0.1), **both)
    assert select(build_record(duration_s=2.0), **both)
    assert not select(build_record(duration_s=0.1), **both)


def test_a_sample_is_of_what_no_filter_selects():
    for settings in ({}, {"errors_only": True}):
        draw = itertools.cycle(each / 100 for each in range(100)).__next__
        plain = [select(build_record(), draw, sample=0.05, **settings) for _ in range(200)]
        assert sum(plain) == 10
    assert select(build_record(status=500), lambda: 0.99, sample=0.05, errors_only=True)
    assert not select(build_record(status=500), lambda: 0.99, sample=0.05)
    assert not select(build_record(), lambda: 0.0, sample=0.0)
