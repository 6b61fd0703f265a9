"""What services have sent by path, from the document of a controller."""

import json

import pytest

from maesh_core.controller.api_clients.encryption_status import PathCounts, ServiceMode, ServicePaths, parse_encryption
from maesh_core.errors import MaeshError
from maesh_core.model.traffic import TunnelCounts, TunnelTraffic

MODES = [ServiceMode(namespace="shop", name="web", encryption="permissive")]
TOTAL = {"seconds": 90.0, "paths": {"clear": 2}, "pathBytes": {"clear": 10}, "clearReasons": {"not offered": 2}}


def build_service(name, **windows):
    return {"key": f"shop/{name}:80", "namespace": "shop", "name": name, "port": "a", **windows}


def test_services_that_have_sent_something_are_listed_with_their_mode():
    document = {
        "at": "2026-01-01T00:00:00Z",
        "services": [build_service("web", total=TOTAL), build_service("quiet"), build_service("new", total=TOTAL)],
        "nodes": [{"name": "a"}, {"name": "b", "error": "no answer"}],
        "tunnels": {"total": {"handshakes": {"full": 3}, "failures": {"timeout": 1}, "incomingFailures": {"tls": 2}}},
    }
    status = parse_encryption(json.dumps(document).encode(), MODES)
    counts = PathCounts(paths={"clear": 2}, path_bytes={"clear": 10}, clear_reasons={"not offered": 2})
    assert status.services == (
        ServicePaths(key="shop/web:80", encryption="permissive", total=counts),
        ServicePaths(key="shop/new:80", total=counts),
    )
    failures = TunnelCounts(handshakes={"full": 3}, failures={"timeout": 1}, incoming_failures={"tls": 2})
    assert (status.tunnels, status.silent) == (TunnelTraffic(total=failures), ("b",))


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"services": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_report_is_an_error(body):
    with pytest.raises(MaeshError, match="no controller"):
        parse_encryption(body, MODES)


def test_a_controller_of_an_earlier_version_counts_no_tunnels():
    assert parse_encryption(b'{"services": []}', MODES).tunnels == TunnelTraffic()
