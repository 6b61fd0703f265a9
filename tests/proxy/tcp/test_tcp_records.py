"""Each TCP connection has one record, with every field right, and is counted once for its client, however it ends."""

import asyncio
import struct

import msgspec
import pytest

from maesh_core.model.configuration import Part, Section, Server, Service, StreamRouter
from maesh_core.model.traffic_record import (
    CUT,
    DENIED,
    EXCESS_CLIENT,
    IDLE,
    NO_SERVER_ACCEPTED,
    PROXY_ENDED,
    UNROUTED,
)
from maesh_core.settings import ProxySettings
from maesh_testing import find_free_port

from .conftest import (
    ENTRYPOINT,
    apply,
    ask,
    build_section,
    echo_whole,
    read_counter,
    read_until_closed,
    wait_drained,
    wait_until,
)


class Gate:
    """Refuses every connection."""

    def on_connect(self, connection):
        return False


class Auditor:
    """Lets every connection in, and says that it would be denied."""

    def on_connect(self, connection):
        connection.would_deny = "no rule"
        return True


async def hold(reader, writer):
    await reader.read()


def check(node, handler, **fields):
    (record,) = node.records
    wanted = {
        "kind": "tcp",
        "client": "127.0.0.1",
        "entrypoint": ENTRYPOINT,
        "protocol": "TCP",
        "service": "a/b:1",
        "destination": "a/b:1",
        "attempts": 1,
        "status": 0,
        "grpc_status": None,
        "reason": "",
        "received_bytes": 0,
        "sent_bytes": 0,
        "upstream_s": None,
        **fields,
    }
    assert {name: getattr(record, name) for name in wanted} == wanted
    assert node.calls == ({("127.0.0.1", "a/b:1"): 1} if wanted["service"] else {})
    assert read_counter(handler, "received_bytes") == wanted["received_bytes"]
    assert read_counter(handler, "sent_bytes") == wanted["sent_bytes"]


async def test_an_ordinary_connection_has_its_bytes_and_no_reason(handler, address, start_server, node):
    port = await start_server(echo_whole)
    apply(handler, build_section(port))
    assert await ask(address, b"question") == b"got question"
    await wait_drained(handler)
    check(node, handler, server=f"127.0.0.1:{port}", received_bytes=8, sent_bytes=12)


async def test_bytes_that_a_scrape_has_counted_are_in_the_record_once(handler, address, start_server, node):
    port = await start_server(echo_whole)
    apply(handler, build_section(port))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"one")
    await wait_until(lambda: read_counter(handler, "received_bytes") == 3)
    writer.write(b"two")
    writer.write_eof()
    assert await reader.read() == b"got onetwo"
    writer.close()
    await wait_drained(handler)
    check(node, handler, server=f"127.0.0.1:{port}", received_bytes=6, sent_bytes=10)


async def test_each_server_that_was_tried_is_an_attempt(handler, address, start_server, node):
    closed, port = find_free_port(), await start_server(echo_whole)
    apply(handler, build_section(closed, port))
    for _ in range(2):
        assert await ask(address, b"x") == b"got x"
    await wait_drained(handler)
    attempts = 1 + read_counter(handler, "failed_connects") / 2
    assert sum(record.attempts for record in node.records) == 2 * attempts
    assert {record.server for record in node.records} == {f"127.0.0.1:{port}"}


async def test_a_connection_that_no_server_accepts_names_the_last_one(handler, address, node):
    port = find_free_port()
    apply(handler, build_section(port))
    assert await read_until_closed(address) == b""
    await wait_drained(handler)
    check(node, handler, server=f"127.0.0.1:{port}", reason=NO_SERVER_ACCEPTED)


async def test_a_service_without_servers_has_no_attempt(handler, address, node):
    apply(handler, build_section())
    assert await read_until_closed(address) == b""
    await wait_drained(handler)
    check(node, handler, server="", attempts=0, reason=NO_SERVER_ACCEPTED)


async def test_an_entrypoint_without_a_service_is_a_refusal(handler, address, node):
    assert await read_until_closed(address) == b""
    fields = {"service": "", "destination": "", "server": "", "attempts": 0}
    check(node, handler, kind="refused", reason=UNROUTED, **fields)


async def test_a_client_above_a_limit_is_a_refusal(handler, address, start_server, node):
    apply(handler, build_section(await start_server(hold)))
    handler._settings = ProxySettings(connection_limit=1)
    _, writer = await asyncio.open_connection(*address)
    await wait_until(lambda: handler.environment.relays)
    assert await read_until_closed(address) == b""
    (record,) = node.records
    assert (record.kind, record.reason) == ("refused", EXCESS_CLIENT)
    writer.close()
    await wait_drained(handler)
    assert [each.kind for each in node.records] == ["refused", "tcp"]


async def test_a_denied_connection_has_no_attempt(handler, address, start_server, node):
    section = build_section(await start_server(echo_whole))
    routers = {key: msgspec.structs.replace(each, middlewares=("gate",)) for key, each in section.routers.items()}
    section = msgspec.structs.replace(section, routers=routers)
    handler.apply_table(handler.compile_table(section, middlewares={"gate": Gate()}, changed=None))
    assert await read_until_closed(address) == b""
    await wait_drained(handler)
    check(node, handler, server="", attempts=0, reason=DENIED)
    assert read_counter(handler, "denied_connections") == 1


async def test_a_connection_that_only_audit_mode_lets_in_has_the_reason(handler, address, start_server, node):
    section = build_section(await start_server(echo_whole))
    routers = {key: msgspec.structs.replace(each, middlewares=("gate",)) for key, each in section.routers.items()}
    section = msgspec.structs.replace(section, routers=routers)
    handler.apply_table(handler.compile_table(section, middlewares={"gate": Auditor()}, changed=None))
    assert await ask(address, b"question") == b"got question"
    await wait_drained(handler)
    (record,) = node.records
    assert (record.would_deny, record.reason) == ("no rule", "")


async def test_a_client_s_reset_is_a_cut(handler, address, start_server, node):
    port = await start_server(hold)
    apply(handler, build_section(port))
    _, writer = await asyncio.open_connection(*address)
    writer.write(b"abc")
    await wait_until(lambda: read_counter(handler, "received_bytes") == 3)
    writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER
    writer.close()
    await wait_drained(handler)
    check(node, handler, server=f"127.0.0.1:{port}", received_bytes=3, reason=CUT)


@pytest.mark.parametrize("reason", [IDLE, PROXY_ENDED])
async def test_an_end_that_the_proxy_causes_has_its_reason(handler, address, start_server, node, reason):
    port = await start_server(hold)
    apply(handler, build_section(port))
    handler._settings = ProxySettings(tunnel_timeout=60)
    _, writer = await asyncio.open_connection(*address)
    await wait_until(lambda: handler.environment.relays - handler.environment.connecting)
    if reason is IDLE:
        node.pass_time(61)
    else:
        handler.abort()
    writer.close()
    await wait_drained(handler)
    check(node, handler, server=f"127.0.0.1:{port}", reason=reason)


async def test_a_split_service_is_counted_for_its_port_and_its_record_names_the_part(
    handler, address, start_server, node
):
    port = await start_server(echo_whole)
    branch, part = "a/b:1/split", "a/b:1/split/v2"
    services = {
        branch: Service(parts=(Part(service=part, weight=1),)),
        part: Service(servers=(Server(address="127.0.0.1", port=port),)),
    }
    router = StreamRouter(entrypoint=ENTRYPOINT, service=branch)
    apply(handler, Section(routers={"a/b:1": router}, services=services))
    assert await ask(address, b"question") == b"got question"
    await wait_drained(handler)
    check(node, handler, server=f"127.0.0.1:{port}", received_bytes=8, sent_bytes=12, destination=part)
