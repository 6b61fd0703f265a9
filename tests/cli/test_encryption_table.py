"""What `maesh status` shows of encryption."""

from maesh_core.cli.encryption_table import EXPOSED_SHOWN, render_encryption
from maesh_core.controller.api_clients.encryption_status import EncryptionStatus, PathCounts, ServicePaths
from maesh_core.model.traffic import TunnelCounts, TunnelTraffic


def build(name, clear=0, *, recent=0, size=0, encrypted=0, **reasons):
    paths = {path: number for path, number in (("clear", clear), ("encrypted", encrypted)) if number}
    total = PathCounts(paths=paths, path_bytes={"clear": size} if size else {}, clear_reasons=reasons)
    return ServicePaths(
        key=f"shop/{name}:80", encryption="permissive", last=PathCounts(paths={"clear": recent}), total=total
    )


def test_what_strict_encryption_would_refuse_is_listed_with_its_reason_what_is_current_first():
    status = EncryptionStatus(
        services=(
            build("old", 50, size=2_000_000, unreachable=50),
            build("web", 3, recent=2, encrypted=7, **{"not offered": 2, "unknown node": 1}),
            build("good", encrypted=5),
        ),
        tunnels=TunnelTraffic(
            total=TunnelCounts(handshakes={"full": 2, "resumed": 10}, failures={"timeout": 1, "certificate": 2})
        ),
    )
    assert render_encryption(status) == [
        "requests and connections since the proxies' start: 12 encrypted (0 B), 53 in clear (2.0 MB), "
        "0 to servers on the same node (0 B)",
        "tunnels between nodes: 12 handshakes, 10 of them resumed",
        "tunnels that nodes opened and that failed: certificate 2, timeout 1",
        "IN CLEAR TO OTHER NODES  MODE        LAST MINUTE  SINCE START  BYTES   WHY",
        "shop/web:80              permissive  2            3            0 B     not offered 2, unknown node 1",
        "shop/old:80              permissive  0            50           2.0 MB  unreachable 50",
    ]


def test_without_anything_in_clear_there_is_no_table():
    lines = render_encryption(EncryptionStatus(services=(build("web", encrypted=5),)))
    assert lines == [
        "requests and connections since the proxies' start: 5 encrypted (0 B), 0 in clear (0 B), "
        "0 to servers on the same node (0 B)"
    ]


def test_of_many_services_the_first_are_shown():
    lines = render_encryption(EncryptionStatus(services=tuple(build(f"s{number}", 1) for number in range(12))))
    assert lines[-1] == "and 2 more, see --json"
    assert len(lines) == EXPOSED_SHOWN + 3


def test_what_could_not_be_read_is_said():
    assert render_encryption(EncryptionStatus(error="403\x1b[2J")) == [
        "what services send in clear is unknown: 403\\x1b[2J"
    ]
    assert "without 1 proxies that did not answer, such as b" in render_encryption(EncryptionStatus(silent=("b",)))


def test_reasons_that_a_proxy_has_made_up_cannot_control_the_terminal():
    text = "\n".join(render_encryption(EncryptionStatus(services=(build("web", 1, **{"\x1b[2J\n": 1}),))))
    assert "\x1b" not in text
