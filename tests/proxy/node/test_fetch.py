"""A scripted server on loopback: what it sends, byte for byte, and what the fetcher makes of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from maesh_core.errors import PullError, SettingsError
from maesh_core.process.tls_credentials import TlsCredentials
from maesh_core.proxy.node.fetch import Answer, Endpoint, Fetcher, FetchLimits, find_source_host, parse_endpoint

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LIMITS = FetchLimits(head_limit_bytes=1024, body_limit_bytes=4096)
IMPATIENT = FetchLimits(answer_timeout_s=0.05, body_timeout_s=0.05)


class ScriptedServer:
    """Answers each request with the next parts of its script; None ends the connection."""

    def __init__(self, *script: bytes | None) -> None:
        self.script = list(script)
        self.requests: list[bytes] = []
        self.has_request = asyncio.Event()
        self.connections = 0
        self.endpoint = Endpoint(host="127.0.0.1", port=1, is_tls=False, authority="controller:9000", path="/c")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.script:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.has_request.set()
                part = self.script.pop(0)
                if part is None:
                    break
                writer.write(part)
                await writer.drain()
                if self.script and self.script[0] is None:
                    self.script.pop(0)
                    break
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*script: bytes | None, limits: FetchLimits = LIMITS) -> AsyncIterator[tuple[Fetcher, ScriptedServer]]:
    scripted = ScriptedServer(*script)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(scripted.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    scripted.endpoint = Endpoint(host="127.0.0.1", port=port, is_tls=False, authority="controller:9000", path="/c")
    fetcher = Fetcher(scripted.endpoint, limits)
    try:
        yield fetcher, scripted
    finally:
        await fetcher.close()
        server.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        await server.wait_closed()


async def test_a_request_is_a_plain_get_with_host_and_query() -> None:
    async with serving(OK) as (fetcher, server):
        assert await fetcher.fetch("since=1") == Answer(200, b"{}")
    assert server.requests == [b"GET /c?since=1 HTTP/1.1\r\nHost: controller:9000\r\nAccept: application/json\r\n\r\n"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", Answer(304, b"")),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Answer(304, b"")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n1\r\n \r\n0\r\n\r\n", Answer(200, b"{} ")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n", Answer(200, b"{}")),
        (b"HTTP/1.1 102 Processing\r\n\r\n" + OK, Answer(200, b"{}")),
        (b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Answer(503, b"")),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", Answer(200, b"{}")),
    ],
)
async def test_an_answer_is_read_to_its_end(sent: bytes, expected: Answer) -> None:
    async with serving(sent) as (fetcher, _):
        assert await fetcher.fetch("") == expected


async def test_the_connection_is_kept_from_pull_to_pull() -> None:
    async with serving(OK, b"HTTP/1.1 304 Not Modified\r\n\r\n", OK) as (fetcher, server):
        assert [(await fetcher.fetch("")).status for _ in range(3)] == [200, 304, 200]
    assert server.connections == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        OK + OK,
    ],
)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(sent: bytes) -> None:
    async with serving(sent, None, OK) as (fetcher, server):
        await fetcher.fetch("")
        assert await fetcher.fetch("") == Answer(200, b"{}")
    assert server.connections == 2


async def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    async with serving(OK, None, OK) as (fetcher, server):
        await fetcher.fetch("")
        assert await fetcher.fetch("") == Answer(200, b"{}")
    assert server.connections == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0\xff garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2000,
        b"HTTP/1.1 102 Processing\r\n\r\n" * 100 + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2000,
    ],
)
async def test_an_answer_cut_broken_or_too_large_is_a_pull_error(sent: bytes) -> None:
    async with serving(sent, None, OK) as (fetcher, server):
        with pytest.raises(PullError):
            await fetcher.fetch("")
        assert await fetcher.fetch("") == Answer(200, b"{}")
    assert server.connections == 2


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"])
async def test_a_server_that_falls_silent_is_a_pull_error(sent: bytes) -> None:
    async with serving(sent, limits=IMPATIENT) as (fetcher, _):
        with pytest.raises(PullError, match="in time"):
            await fetcher.fetch("")


async def test_a_server_may_hold_an_answer_back_as_long_as_it_was_told() -> None:
    async with serving(OK, limits=FetchLimits(answer_timeout_s=0.0)) as (fetcher, _):
        assert await fetcher.fetch("", hold_s=30) == Answer(200, b"{}")


async def test_a_refused_connection_is_a_pull_error(unused_tcp_port_factory: Callable[[], int]) -> None:
    fetcher = Fetcher(parse_endpoint(f"http://127.0.0.1:{unused_tcp_port_factory()}"))
    with pytest.raises(PullError, match="cannot connect"):
        await fetcher.fetch("")


async def test_cancelling_a_pull_leaves_no_connection_behind() -> None:
    async with serving(b"") as (fetcher, server):
        task = asyncio.ensure_future(fetcher.fetch("", hold_s=30))
        await server.has_request.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "None" in repr(fetcher)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/api/configuration/current"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000/api/configuration/current"),
        ("http://c/api/configuration/current", "http://c/api/configuration/current"),
        ("http://c/api/configuration/current/", "http://c/api/configuration/current"),
        ("https://c/mesh/", "https://c/mesh/api/configuration/current"),
        ("http://[::1]:9000", "http://[::1]:9000/api/configuration/current"),
    ],
)
def test_an_endpoint_is_the_base_url_or_the_full_one(url: str, expected: str) -> None:
    assert str(parse_endpoint(url)) == expected


def test_the_port_of_an_endpoint_follows_its_scheme() -> None:
    assert [parse_endpoint(url).port for url in ("http://c", "https://c", "http://[::1]:9000")] == [80, 443, 9000]
    assert parse_endpoint("http://[::1]:9000").host == "::1"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:9000",
        "controller",
        "ftp://c",
        "http://",
        "http://:9000",
        "http://c:0",
        "http://c:99999",
        "http://c:x",
        "http://u:p@c",
        "http://c?x=1",
        "http://c#x",
        "http://c/a b",
        "http://c/\r\nX: y",
        "http://é",
        "http://[::1",
    ],
)
def test_a_bad_endpoint_is_an_error_of_one_line(url: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_endpoint(url)
    assert "\n" not in str(raised.value)
    assert "--endpoint" in str(raised.value)


async def test_a_body_that_comes_with_its_head_may_be_larger_than_a_head() -> None:
    body = b"{" + b" " * 3000 + b"}"
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 3002\r\n\r\n" + body) as (fetcher, _):
        assert await fetcher.fetch("") == Answer(200, body)


@pytest.mark.parametrize(
    ("endpoint", "admin_host", "expected"),
    [
        ("http://127.0.75.1:9000", "127.0.75.1", "127.0.75.1"),
        ("http://192.0.2.1:9000", "192.0.2.1", "192.0.2.1"),
        ("http://127.0.0.1:9000", "127.0.75.1", "127.0.75.1"),
        ("http://localhost:9000", "127.0.75.1", "127.0.75.1"),
        ("http://[2001:DB8::1]:9000", "2001:db8:0::1", "2001:db8:0::1"),
        ("http://here:9000", "HERE", "HERE"),
        ("http://127.0.0.1:9000", "", None),
        ("http://127.0.0.1:9000", "0.0.0.0", None),
        ("http://[::1]:9000", "::", None),
        ("http://controller:9000", "127.0.0.1", None),
        ("http://192.0.2.1:9000", "192.0.2.2", None),
    ],
)
def test_pulls_come_from_the_admin_ports_address_where_the_controller_is_on_this_machine(
    endpoint: str, admin_host: str, expected: str | None
) -> None:
    assert find_source_host(parse_endpoint(endpoint), admin_host) == expected


@pytest.mark.parametrize(("source", "expected"), [("127.0.75.9", "127.0.75.9"), ("192.0.2.77", "127.0.0.1")])
async def test_a_source_that_cannot_be_used_is_done_without(source: str, expected: str) -> None:
    peers: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        fetcher = Fetcher(parse_endpoint(f"http://127.0.0.1:{port}"), LIMITS, source_host=source)
        assert await fetcher.fetch("") == Answer(200, b"{}")
        await fetcher.close()
    assert peers == [expected]


def test_a_token_is_not_sent_in_clear_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with pytest.raises(SettingsError, match="--controller-token needs an https endpoint"):
        Fetcher(parse_endpoint("http://10.0.0.1:9000"), token_file=str(tmp_path / "token"))


async def test_the_token_is_read_for_each_request(tmp_path: Path) -> None:
    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            received.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    token = tmp_path / "token"
    fetcher = Fetcher(parse_endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), token_file=str(token))
    for text in ("first", "second"):
        token.write_text(text)
        await fetcher.fetch("")
    token.unlink()
    with pytest.raises(PullError, match=r"cannot read .*token: No such file or directory \(--controller-token\)"):
        await fetcher.fetch("")
    await fetcher.close()
    server.close()
    await server.wait_closed()
    assert [b"Authorization: Bearer first\r\n" in received[0], b"Bearer second\r\n" in received[1]] == [True, True]


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "No such file or directory"), ("x", "it contains no certificates")]
)
async def test_certificates_that_cannot_be_read_are_an_error_of_the_pull(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    path = tmp_path / "ca"
    if text is not None:
        path.write_text(text)
    fetcher = Fetcher(parse_endpoint("https://127.0.0.1:1"), root_ca=str(path))
    with pytest.raises(PullError, match=rf"cannot read .* \(--root-ca-controller\): {reason}"):
        await fetcher.fetch("")


@pytest.mark.parametrize("key", ["not a key", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
async def test_credentials_that_cannot_be_used_are_an_error_of_the_pull(key: str) -> None:
    fetcher = Fetcher(parse_endpoint("https://127.0.0.1:1"))
    fetcher.use(TlsCredentials(key=key, chain="", bundle=""))
    with pytest.raises(PullError, match=r"^the certificate of this proxy cannot be used: \w+Error$"):
        await fetcher.fetch("")
