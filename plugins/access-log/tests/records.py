"""Records as a worker creates them."""

from typing import Any

from maesh_core.model import traffic_record
from maesh_core.model.traffic_record import TrafficRecord
from maesh_testing import FakeNode

STARTED_AT = 1764444772.123456


class FakeHeaders:
    """The headers of a request, by name in lower case."""

    def __init__(self, **values: bytes) -> None:
        self.values = {name.replace("_", "-").encode(): value for name, value in values.items()}

    def get(self, name: bytes) -> bytes | None:
        return self.values.get(name.lower())


def build_named_node(**names: str) -> FakeNode:
    """Build a node whose clock is a second before the records, and whose pods have the address 10.1.2.3 and others."""
    node = FakeNode()
    node.clock.now = STARTED_AT - 1
    node.set_pod_names({"10.1.2.3": "shop/web-0", **names})
    return node


def build_record(kind: str = "http", **fields: Any) -> TrafficRecord:
    """Build the record of a plain request; `fields` replace its own."""
    own: dict[str, Any] = {
        "started_at": STARTED_AT,
        "duration_s": 0.00125,
        "client": "10.1.2.3",
        "entrypoint": 5000,
        "protocol": "HTTP/1.1",
        "service": "shop/cart:80",
        "destination": "shop/cart:80",
        "server": "10.1.2.9:8080",
        "attempts": 1,
        "status": 200,
        "received_bytes": 3,
        "sent_bytes": 124,
        "upstream_s": 0.001,
        "method": b"GET",
        "host": b"cart.shop.maesh",
        "target": b"/items?page=2",
        "headers": FakeHeaders(user_agent=b"curl/8.0", referer=b"http://shop/"),
    }
    return traffic_record.build_record(kind, **(own | fields))


def build_connection(kind: str = "tcp", **fields: Any) -> TrafficRecord:
    """Build the record of a connection or session without HTTP."""
    own = {"started_at": STARTED_AT, "duration_s": 2.5, "client": "10.1.2.3", "entrypoint": 10000}
    names = {"service": "shop/db:5432", "destination": "shop/db:5432", "server": "10.1.2.9:5432", "attempts": 1}
    return traffic_record.build_record(kind, **{**own, **names, "protocol": kind.upper(), **fields})
