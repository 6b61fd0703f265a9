"""TLS to a server, byte by byte: a transport records what is sent, and a user records what arrives."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.plugin_system.transports import OpenFailure
from maesh_core.proxy.tcp import tls_connection
from maesh_core.proxy.tcp.tls_connection import CERTIFICATE, CLOSED, HANDSHAKE, UNREAD_ANSWERS_BYTES, TlsConnection

from .conftest import wait_until
from .tls_server import NAME, OTHER_AUTHORITY, MemoryServer, build_client_context, build_server_context

SERVER_CONTEXT = build_server_context()
CLIENT_CONTEXT = build_client_context()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Below:
    """The transport below: `sent` is what it was given since the last `take`."""

    def __init__(self):
        self.sent = b""
        self.calls = []

    def take(self):
        sent, self.sent = self.sent, b""
        return sent

    def write(self, data):
        self.sent += data

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.calls.append("end")

    def close(self):
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def set_write_buffer_limits(self, high=None, low=None):
        self.calls.append(("limits", high, low))

    def get_extra_info(self, name, default=None):
        return default


class User:
    """A relay that records its calls in order."""

    def __init__(self):
        self.received = b""
        self.events = []
        self.failure = None

    def connection_made(self, transport):
        self.events.append("open")

    def open_failed(self, failure):
        self.failure = failure
        self.events.append("failed")

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        self.events.append("end")
        return True

    def connection_lost(self, error):
        self.events.append("lost" if error is None else "reset")

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")


class Opening:
    has_connection = True

    def __init__(self):
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class Link:
    """A connection, its user, and a server; `move` passes bytes between them until both sides wait."""

    def __init__(self, context=SERVER_CONTEXT, *, client=CLIENT_CONTEXT, problem=""):
        self.below, self.user, self.server = Below(), User(), MemoryServer(context)
        self.failures = []
        self.connection = TlsConnection(
            self.user,
            client,
            NAME,
            check=lambda _: problem,
            note_failure=lambda reason, text: self.failures.append(reason),
        )

    def open(self):
        self.connection.connection_made(self.below)
        self.move()
        return self

    def move(self, piece=1 << 20):
        while sent := self.below.take():
            self.receive(self.server.feed(sent), piece)

    def receive(self, data, piece=1 << 20):
        for at in range(0, len(data), piece):
            self.connection.data_received(data[at : at + piece])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_bytes_pass_both_ways_however_they_are_split(version, piece):
    link = Link(build_server_context(version=version))
    link.connection.connection_made(link.below)
    link.move(piece)
    assert link.user.events == ["open"]
    link.connection.write(b"question")
    link.move(piece)
    assert link.server.received == b"question"
    link.receive(link.server.write(b"answer" * 3000), piece)
    assert link.user.received == b"answer" * 3000


def test_bytes_that_come_with_the_end_of_the_handshake_are_not_lost():
    link = Link(build_server_context(version=ssl.TLSVersion.TLSv1_3))
    link.connection.connection_made(link.below)
    while not link.server.is_open:
        answer = link.server.feed(link.below.take())
        link.receive(answer + (link.server.write(b"I speak first") if link.server.is_open else b""))
    assert link.user.received == b"I speak first"


async def test_the_user_hears_of_the_connection_only_after_the_certificate_was_accepted():
    link = Link(problem="the server's certificate is not for db.example.com").open()
    assert link.user.failure == OpenFailure(
        "the server's certificate is not for db.example.com", 502, is_servers_fault=True
    )
    assert (link.failures, link.user.events, link.below.calls) == ([CERTIFICATE], ["failed"], ["close"])
    assert not link.server.is_open
    link.connection.write(b"secret")
    assert link.below.take() == b""


@pytest.mark.parametrize(
    ("context", "client", "reason", "text"),
    [
        (SERVER_CONTEXT, build_client_context(OTHER_AUTHORITY), CERTIFICATE, "not trusted: "),
        (build_server_context(is_expired=True), CLIENT_CONTEXT, CERTIFICATE, "has expired"),
    ],
)
async def test_a_certificate_that_is_not_valid_fails_the_handshake_with_an_alert(context, client, reason, text):
    link = Link(context, client=client)
    link.connection.connection_made(link.below)
    link.receive(link.server.feed(link.below.take()))
    assert text in link.user.failure.reason
    assert (link.failures, link.user.events, link.below.calls) == ([reason], ["failed"], ["close"])
    with pytest.raises(ssl.SSLError, match="alert"):
        link.server.feed(link.below.take())
    link.connection.connection_lost(None)
    assert link.user.events == ["failed"]


async def test_a_server_that_speaks_no_tls_fails_the_handshake():
    link = Link()
    link.connection.connection_made(link.below)
    link.connection.data_received(b"220 mail.example.com ESMTP\r\n")
    assert link.failures == [HANDSHAKE]
    assert link.user.failure.reason.startswith("the TLS handshake with the server failed: ")
    assert link.user.failure.is_servers_fault
    link.connection.connection_lost(None)


@pytest.mark.parametrize("end", ["eof", "lost", "reset"])
async def test_a_server_that_leaves_in_the_handshake_is_a_failure_and_reported_once(end):
    link = Link()
    link.connection.connection_made(link.below)
    assert link.connection.is_in_handshake
    if end == "eof":
        link.connection.eof_received()
    link.connection.connection_lost(ConnectionResetError() if end == "reset" else None)
    assert (link.failures, link.user.events) == ([CLOSED], ["failed"])
    assert not link.connection.is_in_handshake


def test_a_connection_that_is_not_made_is_reported():
    link = Link()
    failure = OpenFailure("not connected", 0, is_servers_fault=True)
    link.connection.open_failed(failure)
    assert link.user.failure is failure
    assert link.failures == []


def test_cancelling_stops_what_is_being_opened_and_nothing_is_called_afterwards():
    link, opening = Link(), Opening()
    link.connection.hold(opening)
    assert link.connection.has_connection
    assert not link.connection.is_in_handshake
    link.connection.cancel()
    link.connection.cancel()
    assert opening.is_cancelled
    link.connection.open_failed(OpenFailure("late", 0, is_servers_fault=False))
    link.connection.connection_made(link.below)
    assert (link.user.events, link.below.calls, link.below.sent) == ([], ["abort"], b"")


def test_cancelling_in_the_handshake_aborts_the_connection_silently():
    link = Link()
    link.connection.connection_made(link.below)
    link.connection.cancel()
    link.connection.connection_lost(None)
    link.connection.data_received(b"late")
    assert (link.user.events, link.failures, link.below.calls) == ([], [], ["abort"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_client_can_end_its_direction_and_receive_the_rest(version):
    link = Link(build_server_context(version=version)).open()
    link.connection.write(b"all")
    assert link.connection.can_write_eof()
    link.connection.write_eof()
    link.connection.write_eof()
    link.connection.write(b"too late")
    link.move()
    assert (link.server.received, link.server.has_ended, link.below.calls) == (b"all", True, ["end"])
    link.receive(link.server.write(b"x" * 100_000))
    link.receive(link.server.end())
    assert link.user.received == b"x" * 100_000
    assert link.user.events == ["open", "end"]
    link.connection.eof_received()
    link.connection.connection_lost(None)
    assert link.user.events == ["open", "end", "lost"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_server_can_end_its_direction_and_receive_the_rest(version):
    link = Link(build_server_context(version=version)).open()
    link.receive(link.server.write(b"all"))
    link.receive(link.server.end())
    assert (link.user.received, link.user.events) == (b"all", ["open", "end"])
    link.connection.write(b"x" * 100_000)
    link.connection.write_eof()
    link.move()
    assert link.below.calls == ["end"]


def test_bytes_after_the_servers_end_are_ignored_and_not_kept(monkeypatch):
    buffers = []

    def create_buffer(create=ssl.MemoryBIO):
        buffers.append(create())
        return buffers[-1]

    monkeypatch.setattr(ssl, "MemoryBIO", create_buffer)
    link = Link().open()
    link.receive(link.server.end())
    link.receive(b"x" * 1_000_000, piece=65536)
    assert len(buffers) == 4
    assert [each.pending for each in buffers] == [0, 0, 0, 0]
    assert (link.user.received, link.user.events) == (b"", ["open", "end"])
    link.connection.write(b"the other direction")
    link.move()
    assert link.server.received == b"the other direction"


@pytest.mark.parametrize("end", ["eof", "lost", "reset"])
def test_an_end_without_close_notify_is_a_reset_after_the_bytes_before_it(end):
    link = Link().open()
    link.receive(link.server.write(b"part"))
    if end == "eof":
        link.connection.eof_received()
        assert link.below.calls == ["abort"]
    link.connection.connection_lost(ConnectionResetError() if end == "reset" else None)
    assert (link.user.received, link.user.events) == (b"part", ["open", "reset"])


def test_changed_bytes_are_a_reset_and_never_passed_on():
    link = Link().open()
    record = bytearray(link.server.write(b"secret"))
    record[-1] ^= 1
    link.connection.data_received(bytes(record))
    assert (link.user.received, link.user.events, link.below.calls) == (b"", ["open", "reset"], ["abort"])
    link.connection.data_received(link.server.write(b"more"))
    assert link.user.received == b""


def test_back_pressure_is_passed_on_in_both_directions():
    link = Link()
    link.connection.connection_made(link.below)
    link.connection.pause_writing()
    link.connection.resume_writing()
    assert link.user.events == []
    link.move()
    link.connection.set_write_buffer_limits(high=2, low=1)
    link.connection.pause_reading()
    link.connection.resume_reading()
    assert link.below.calls == [("limits", 2, 1), "pause", "resume"]
    link.connection.pause_writing()
    link.connection.resume_writing()
    assert link.user.events == ["open", "pause", "resume"]


@pytest.mark.parametrize("reads", [True, False])
def test_a_server_that_reads_nothing_gets_few_answers_of_tls_itself(reads):
    server, client = build_server_context(), build_client_context()
    server.verify_mode, client.post_handshake_auth = ssl.CERT_OPTIONAL, True
    link = Link(server, client=client).open()
    link.connection.pause_writing()
    answers = 0
    while answers < 4 * UNREAD_ANSWERS_BYTES and link.user.events[-1] != "reset":
        if reads:
            link.connection.resume_writing()
            link.connection.pause_writing()
        link.server.tls.verify_client_post_handshake()
        link.receive(link.server.write(b"x"))
        answer = link.below.take()
        answers += len(answer)
        link.receive(link.server.feed(answer))
    if reads:
        assert (answers >= 4 * UNREAD_ANSWERS_BYTES, link.below.calls) == (True, [])
    else:
        assert (0 < answers <= UNREAD_ANSWERS_BYTES, link.below.calls) == (True, ["abort"])


async def test_closing_says_so_and_a_server_that_reads_nothing_is_aborted_later(monkeypatch):
    monkeypatch.setattr(tls_connection, "CLOSE_LIMIT_S", 0.0)
    link = Link().open()
    link.connection.write(b"last")
    link.connection.close()
    link.connection.close()
    assert link.connection.is_closing()
    assert link.below.calls == ["end", "close"]
    link.server.feed(link.below.take())
    assert (link.server.received, link.server.has_ended) == (b"last", True)
    await wait_until(lambda: link.below.calls == ["end", "close", "abort"])
    link.connection.connection_lost(None)
    assert link.user.events == ["open"]


async def test_the_limit_of_closing_ends_with_the_connection():
    link = Link().open()
    link.connection.close()
    timer = link.connection._close_timer
    link.connection.connection_lost(None)
    assert timer is not None
    assert timer.cancelled()


def test_a_connection_without_a_transport_knows_nothing():
    link = Link()
    assert link.connection.get_extra_info("socket", 3) == 3
    link.connection.pause_reading()
    link.connection.resume_reading()
    link.connection.set_write_buffer_limits(high=1)
    assert "open=False" in repr(link.connection)


def test_a_name_that_no_certificate_can_have_is_refused():
    with pytest.raises(ValueError, match="label"):
        TlsConnection(User(), CLIENT_CONTEXT, ".x", check=str, note_failure=print)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 1), st.booleans(), st.binary(min_size=1, max_size=40), st.integers(1, 50)),
        max_size=30,
    )
)
def test_the_bytes_of_two_connections_never_mix(steps):
    """Each step writes to one connection, from either side, and moves bytes in pieces of any size."""
    links = [Link().open(), Link().open()]
    to_server, to_user = [b"", b""], [b"", b""]
    for number, is_from_user, data, piece in steps:
        link = links[number]
        if is_from_user:
            link.connection.write(data)
            to_server[number] += data
            link.move(piece)
        else:
            to_user[number] += data
            link.receive(link.server.write(data), piece)
        assert [each.server.received for each in links] == to_server
        assert [each.user.received for each in links] == to_user
