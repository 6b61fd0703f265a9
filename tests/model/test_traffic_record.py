"""Records: their values as one tuple, and headers that are created when they are read."""

from typing import Any

from maesh_core.model.traffic_record import HTTP, LISTED, TCP, TrafficRecord

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


class Head:
    """Counts how often its headers are created."""

    def __init__(self):
        self.created = 0

    @property
    def client_headers(self):
        self.created += 1
        return {b"a": b"b"}


def test_the_listed_values_are_those_of_the_fields():
    record = TrafficRecord(HTTP, **FIELDS)
    listed = dict(zip(LISTED, record.list_values(), strict=True))
    assert listed == {"kind": HTTP, **FIELDS}
    assert listed == {name: getattr(record, name) for name in LISTED}


def test_headers_are_created_once_and_only_when_they_are_read():
    head = Head()
    record = TrafficRecord(HTTP, **FIELDS, head=head)
    record.list_values()
    assert head.created == 0
    assert record.headers is record.headers
    assert (record.headers, head.created) == ({b"a": b"b"}, 1)


def test_a_record_may_have_headers_or_none():
    headers = {b"a": b"b"}
    assert TrafficRecord(HTTP, **FIELDS, headers=headers).headers is headers
    assert TrafficRecord(TCP, started_at=0.0, duration_s=0.0, client="", entrypoint=1, protocol="TCP").headers is None
