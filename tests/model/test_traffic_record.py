"""Records: their values as one tuple, and headers that are created when they are read."""

from typing import Any

import pytest

from maesh_core.model.traffic_record import HTTP, TCP, build_record, find_outcome, find_place

FIELDS: dict[str, Any] = {
    "started_at": 1.5,
    "duration_s": 0.25,
    "client": "10.0.0.1",
    "entrypoint": 5000,
    "protocol": "HTTP/1.1",
    "service": "shop/cart:80",
    "destination": "shop/cart-v2:80",
    "server": "10.0.0.2:80",
    "attempts": 2,
    "status": 200,
    "grpc_status": 7,
    "reason": "denied",
    "received_bytes": 3,
    "sent_bytes": 4,
    "upstream_s": 0.125,
    "method": b"GET",
    "host": b"cart",
    "target": b"/",
    "server_path": "encrypted",
    "server_node": "node-b",
    "would_deny": "no rule",
}

PLACE = ("service", "destination", "server", "server_path", "server_node", "host", "entrypoint")
OUTCOME = ("protocol", "method", "attempts", "status", "grpc_status", "reason", "would_deny")
OTHER: dict[type, Any] = {str: "other", bytes: b"other", int: 9}


class Head:
    """Counts how often its headers are created."""

    def __init__(self):
        self.created = 0

    @property
    def client_headers(self):
        self.created += 1
        return {b"a": b"b"}


def test_the_listed_values_are_those_of_the_fields():
    record = build_record(HTTP, **FIELDS)
    assert {name: getattr(record, name) for name in ("kind", *FIELDS)} == {"kind": HTTP, **FIELDS}
    *values, place, outcome = record.list_values()
    names = ("started_at", "duration_s", "upstream_s", "client", "target", "received_bytes", "sent_bytes")
    assert values == [FIELDS[name] for name in names]
    assert (place, outcome) == (record.place, record.outcome)
    assert place.list_values() == tuple(FIELDS[name] for name in PLACE)
    assert outcome.list_values() == (HTTP, *(FIELDS[name] for name in OUTCOME))


@pytest.mark.parametrize("name", PLACE)
def test_a_place_is_shared_as_long_as_no_value_changes(name):
    values = {each: FIELDS[each] for each in PLACE}
    place = find_place(None, **values)
    assert find_place(place, **values | {"host": bytes(bytearray(values["host"]))}) is place
    changed = values | {name: OTHER[type(values[name])]}
    other = find_place(place, **changed)
    assert (other is place, other.list_values()) == (False, tuple(changed.values()))


@pytest.mark.parametrize("name", ["kind", *OUTCOME])
def test_an_outcome_is_shared_as_long_as_no_value_changes(name):
    values = {"kind": HTTP, **{each: FIELDS[each] for each in OUTCOME}}
    outcome = find_outcome(None, **values)
    assert find_outcome(outcome, **values | {"method": bytes(bytearray(values["method"]))}) is outcome
    changed = values | {name: OTHER[type(values[name])]}
    other = find_outcome(outcome, **changed)
    assert (other is outcome, other.list_values()) == (False, tuple(changed.values()))


def test_places_and_outcomes_show_what_they_are():
    record = build_record(HTTP, **FIELDS)
    assert repr(record.place) == "<RecordPlace shop/cart:80 at 10.0.0.2:80>"
    assert repr(record.outcome) == "<RecordOutcome http status=200 'denied'>"


def test_headers_are_created_once_and_only_when_they_are_read():
    head = Head()
    record = build_record(HTTP, **FIELDS, head=head)
    record.list_values()
    assert head.created == 0
    assert record.headers is record.headers
    assert (record.headers, head.created) == ({b"a": b"b"}, 1)


def test_a_record_may_have_headers_or_none():
    headers = {b"a": b"b"}
    assert build_record(HTTP, **FIELDS, headers=headers).headers is headers
    assert build_record(TCP, started_at=0.0, duration_s=0.0, client="", entrypoint=1, protocol="TCP").headers is None
