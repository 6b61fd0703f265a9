"""How many datagrams are lost to servers that are not there: a model network whose ICMP errors may come late."""

import ctypes
import errno
import itertools
import select
import socket
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maesh_udp import UdpSettings
from maesh_udp.listener import UdpListener
from maesh_udp.proxy import UdpHandler
from maesh_udp.session import ERROR_S, KEPT_BYTES, KEPT_DATAGRAMS

from maesh_core.plugin import Section, Server, Service, StreamRouter
from maesh_testing import FakeNode

ENTRYPOINT, KEY = 15000, "test/dns:53"


class ModelSocket:
    """A UDP socket to one server of the network: what it sends arrives, or comes back as an error later."""

    def __init__(self, network):
        self.network, self.descriptor = network, next(network.descriptors)
        self.port, self.has_error, self.answers, self.is_closed = 0, False, [], False
        network.sockets[self.descriptor] = self

    def connect(self, address):
        self.port = address[1]

    def fileno(self):
        return self.descriptor

    def send(self, data):
        self._raise_error()
        self.network.arrive(self, bytes(data))
        return len(data)

    def recv_into(self, buffer):
        buffer[:1] = self.recv(1)
        return 1

    def recv(self, size):
        self._raise_error()
        if not self.answers:
            raise BlockingIOError
        return self.answers.pop(0)[:size]

    def close(self):
        self.is_closed = True

    def _raise_error(self):
        if self.has_error:
            self.has_error = False
            raise ConnectionRefusedError


class Network:
    """Servers by port; implements `node.SocketWatcher` too."""

    def __init__(self, ports, clock):
        self.clock = clock
        self.descriptors = itertools.count(1000)
        self.dead, self.watchers, self.sockets = set(), {}, {}
        self.deaths = Counter()
        self.questions, self.errors = [], []
        self.arrived, self.lost = {port: [] for port in ports}, []

    def arrive(self, sock, data):
        if sock.port in self.dead:
            self.errors.append((self.clock.now, sock))
            self.lost.append((sock.port, self.deaths[sock.port], data))
        else:
            self.arrived[sock.port].append(data)
            self.questions.append(sock)

    def kill(self, port):
        self.dead.add(port)
        self.deaths[port] += 1

    def answer(self):
        questions, self.questions = self.questions, []
        for sock in questions:
            if sock.port not in self.dead:
                sock.answers.append(b"!")
                self._tell(sock, select.EPOLLIN)

    def deliver_errors(self, sent_by=float("inf")):
        while self.errors and self.errors[0][0] <= sent_by:
            _, sock = self.errors.pop(0)
            sock.has_error = True
            self._tell(sock, select.EPOLLERR)

    def _tell(self, sock, event):
        if not sock.is_closed:
            self.watchers[sock.descriptor](event)

    def watch(self, descriptor, watcher, events):
        self.watchers[descriptor] = watcher

    def forget(self, descriptor):
        del self.watchers[descriptor]

    def close_socket(self, sock):
        self.forget(sock.descriptor)
        sock.close()

    def finish(self, work):
        pass

    def receive(self, descriptor, *_):
        """Receive as recvmmsg(2) does: one answer, or -1 and an error number."""
        try:
            self.sockets[descriptor].recv(1)
        except OSError as error:
            ctypes.set_errno(errno.EAGAIN if isinstance(error, BlockingIOError) else errno.ECONNREFUSED)
            return -1
        return 1

    def send(self, descriptor, messages, count, flags):
        """Send answers as sendmmsg(2) does; nobody looks at them."""
        return count


class Node(FakeNode):
    network: Any = None

    @property
    def sockets(self):
        return self.network


class Model:
    def __init__(self, ports, monkeypatch):
        self.node = Node()
        self.node.network = self.network = Network(ports, self.node.clock)
        monkeypatch.setattr(socket, "SocketType", lambda *_: ModelSocket(self.network))
        self.handler = UdpHandler(UdpSettings(), self.node)
        outbox = self.handler.answers.outbox
        outbox._receive, outbox._function = self.network.receive, self.network.send
        entrypoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        entrypoint.bind(("127.0.0.1", 0))
        self.listener = UdpListener(self.handler, entrypoint, ENTRYPOINT)
        section = Section(
            routers={KEY: StreamRouter(entrypoint=ENTRYPOINT, service=KEY)},
            services={KEY: Service(servers=tuple(Server(address="10.0.0.1", port=port) for port in ports))},
        )
        self.handler.apply_table(self.handler.compile_table(section, middlewares={}, changed=None))
        self.numbers = itertools.count()

    def send(self, client, size=1):
        """Send a datagram; a client whose server is known to it waits for an answer, or for what comes in its place."""
        mark, data = b"%016d" % client, b"%0*d" % (size, next(self.numbers))
        session = self.listener.sessions.get(mark)
        is_known = session is not None and session._kept is None
        self.handler.carry(self.listener, mark, data)
        if is_known:
            self.network.deliver_errors()
        return data

    def read_parts(self, *names):
        """Collect the samples of metrics, by label."""
        families = {family.name: family for family in self.handler.collect_metrics()}
        return [dict(families[f"maesh_udp_{name}"].samples) for name in names]

    def pass_time(self, seconds):
        """Let time pass: an error is not later than three seconds."""
        self.node.clock.now += seconds
        self.network.deliver_errors(self.node.clock.now - 3)
        self.node.pass_time(0)

    def count_lost(self):
        """Count by server, and by the time that it died, the datagrams that it was sent and that no server got."""
        arrived = {data for each in self.network.arrived.values() for data in each}
        return Counter((port, death) for port, death, data in self.network.lost if data not in arrived)

    def close(self):
        self.handler.abort()
        self.listener.close()
        assert not self.handler.trials
        assert not self.handler.kept_bytes
        assert not self.network.watchers
        self.node.close()


@pytest.fixture
def build_model():
    """Return what builds a model of servers of these ports."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        models = []

        def build(*ports):
            models.append(Model(ports, monkeypatch))
            return models[-1]

        yield build
        for model in models:
            model.close()


STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 5), st.integers(1, 3)),
    st.tuples(st.just("ask"), st.integers(0, 5)),
    st.tuples(st.just("answer")),
    st.tuples(st.just("errors")),
    st.tuples(st.just("die"), st.integers(2, 4)),
    st.tuples(st.just("come back"), st.integers(2, 4)),
    st.tuples(st.just("time"), st.sampled_from([0.25, 1.0, 2.0, 5.0, 30.0])),
)


def carry_out(model, name, *values):
    if name == "send":
        client, count = values
        for _ in range(count):
            model.send(client)
    elif name == "ask":
        model.send(*values)
        model.network.deliver_errors()
        model.network.answer()
    elif name == "answer":
        model.network.answer()
    elif name == "errors":
        model.network.deliver_errors()
    elif name == "die":
        model.network.kill(*values)
    elif name == "come back":  # no error is so late that an answer of the server's next life overtakes it
        model.network.deliver_errors()
        model.network.dead.discard(*values)
    else:
        model.pass_time(*values)


@settings(max_examples=300)
@given(st.integers(2, 4), st.sets(st.integers(2, 4)), st.lists(STEPS, min_size=10, max_size=60))
@pytest.mark.slow
def test_a_client_loses_at_most_one_datagram_to_each_dead_server_while_another_is_there(count, dead, steps):
    with pytest.MonkeyPatch.context() as monkeypatch:
        model = Model(range(1, count + 1), monkeypatch)
        for port in dead:
            model.network.kill(port)
        for step in steps:
            carry_out(model, *step)
        model.network.deliver_errors()
        assert max(model.count_lost().values(), default=0) <= 1
        model.close()


COUNTED = ("server_sessions", "server_failed_sessions", "server_received_bytes", "server_sent_bytes")


@settings(max_examples=100)
@given(st.integers(2, 4), st.sets(st.integers(2, 4)), st.lists(STEPS, min_size=10, max_size=40))
@pytest.mark.slow
def test_counts_of_servers_never_decrease_and_never_exceed_what_was_sent_to_them(count, dead, steps):
    with pytest.MonkeyPatch.context() as monkeypatch:
        model = Model(range(1, count + 1), monkeypatch)
        for port in dead:
            model.network.kill(port)
        before = [{} for _ in COUNTED]
        for step in steps:
            carry_out(model, *step)
            now = model.read_parts(*COUNTED)
            for earlier, later in zip(before, now, strict=True):
                assert earlier.items() <= {labels: min(later[labels], earlier[labels]) for labels in earlier}.items()
            before = now
        model.network.deliver_errors()
        model.handler.abort()
        sessions, failed, received, _ = model.read_parts(*COUNTED)
        of_service = model.read_parts("sessions", "failed_sessions")
        assert [sum(each.values()) for each in (sessions, failed)] == [sum(each.values()) for each in of_service]
        for port, datagrams in model.network.arrived.items():
            label = (f"10.0.0.1:{port}",)
            lost = sum(len(data) for each, _, data in model.network.lost if each == port)
            assert received.get(label, 0) <= sum(map(len, datagrams)) + lost
        model.close()


def test_datagrams_that_a_server_cannot_have_received_count_for_the_one_that_gets_them(build_model):
    model = build_model(2, 1)
    model.network.kill(2)
    for _ in range(3):
        model.send(7)
    assert model.read_parts("server_sessions", "server_received_bytes") == [{("10.0.0.1:2",): 1}, {("10.0.0.1:2",): 0}]
    model.network.deliver_errors()
    model.network.answer()
    sessions, failed, received = model.read_parts("server_sessions", "server_failed_sessions", "server_received_bytes")
    assert sessions == {("10.0.0.1:1",): 1, ("10.0.0.1:2",): 1}
    assert failed == {("10.0.0.1:1",): 0, ("10.0.0.1:2",): 1}
    assert received == {("10.0.0.1:1",): 3, ("10.0.0.1:2",): 0}


def test_nothing_is_lost_to_servers_that_were_dead_from_the_start_however_late_their_errors_come(build_model):
    model = build_model(2, 3, 1)
    for port in (2, 3):
        model.network.kill(port)
    sent = [model.send(7) for _ in range(KEPT_DATAGRAMS)]
    assert not model.network.arrived[1]
    model.network.deliver_errors()
    assert model.network.arrived[1] == sent
    assert model.send(7) not in model.count_lost()
    assert len(model.handler.sessions) == 1


def test_a_trial_is_made_with_a_copy_and_the_server_comes_back_when_it_answers(build_model):
    model = build_model(1, 2)
    model.network.kill(2)
    for client in range(100):
        carry_out(model, "ask", client)
        model.pass_time(0.5)
    assert not model.count_lost()
    assert len(model.network.arrived[1]) == 100
    tried = [data for port, _, data in model.network.lost if port == 2]
    assert len(tried) == len(set(tried)) > 3
    model.network.dead.discard(2)
    for client in range(100, 300):
        carry_out(model, "ask", client)
        model.pass_time(0.5)
    assert len(model.network.arrived[2]) > 50
    assert len(model.network.arrived[1]) + len(model.network.arrived[2]) == 301  # one copy, of the trial that succeeded


def set_aside(model):
    """Have the second server fail, and leave its pause behind."""
    model.network.kill(2)
    for client in (1001, 1002):
        carry_out(model, "ask", client)
    model.pass_time(1.25)
    (server,) = [each for each in model.handler._streams.routes[ENTRYPOINT]._servers if each.socket_address[1] == 2]
    assert server.is_set_aside
    return server


@pytest.mark.parametrize("is_answering", [True, False])
def test_silence_fails_a_trial_only_where_the_other_server_answered(build_model, is_answering):
    model = build_model(1, 2)
    server = set_aside(model)
    for client in range(2):
        model.send(client)
    assert len(model.handler.trials) == 1
    model.network.errors.clear()  # it is not only dead, nobody says so either
    if is_answering:
        model.network.answer()
    model.node.pass_time(ERROR_S - 1)
    assert server.is_set_aside
    assert model.handler.trials
    model.node.pass_time(1)
    assert server.is_set_aside is is_answering
    assert not model.handler.trials


def test_a_server_has_one_trial_at_a_time(build_model):
    model = build_model(1, 2)
    set_aside(model)
    for client in range(50):
        model.send(client)
        model.node.pass_time(0.25 if client < 10 else 0)
    assert len(model.handler.trials) == 1
    assert len(model.network.errors) == 1


def test_datagrams_go_to_a_server_that_is_set_aside_if_there_is_no_other(build_model):
    model = build_model(1, 2)
    for port in (1, 2):
        model.network.kill(port)
    for client in range(2):
        carry_out(model, "ask", client)
    assert not model.handler.sessions
    model.network.dead.clear()
    sent = model.send(3)
    assert [sent] in model.network.arrived.values()
    assert not model.handler.trials


def test_other_sessions_of_a_server_that_fails_keep_copies_until_it_answers(build_model):
    model = build_model(1, 2)
    for client in range(4):
        carry_out(model, "ask", client)
    assert not model.handler.kept_bytes
    model.network.kill(2)
    for client in range(4):
        carry_out(model, "ask", client)
    assert sum(model.count_lost().values()) == 1
    assert len(model.network.arrived[1]) == 5


def test_copies_are_dropped_when_the_server_answers_or_errors_are_no_longer_expected(build_model):
    model = build_model(1)
    model.send(1)
    model.send(2)
    assert model.handler.kept_bytes
    model.network.answer()
    assert not model.handler.kept_bytes
    model.send(3)
    model.node.pass_time(ERROR_S - 1)
    assert model.handler.kept_bytes
    model.node.pass_time(1)
    assert not model.handler.kept_bytes


def test_copies_have_a_limit_for_each_session_and_for_all(build_model):
    model = build_model(1)
    for _ in range(KEPT_DATAGRAMS):
        model.send(1, size=10)
    assert model.handler.kept_bytes == KEPT_DATAGRAMS * 10
    model.send(1)
    assert not model.handler.kept_bytes
    for client in range(100):
        model.send(client, size=60_000)
    assert KEPT_BYTES - 60_000 < model.handler.kept_bytes <= KEPT_BYTES
    assert len(model.network.arrived[1]) == KEPT_DATAGRAMS + 101
