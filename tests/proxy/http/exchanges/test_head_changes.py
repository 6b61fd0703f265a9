"""What middlewares choose for a head and the exchange keeps with it: changes of fields, and the backend."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.configuration import HttpRule, Part
from maesh_core.plugin_system.field_changes import FieldChanges
from maesh_core.plugin_system.interfaces import BackendChoice

from ..conftest import _open_world
from ..test_rule_compiling import apply, build_rules, build_service
from .middleware_doubles import BUSY, GET, OK, ask, get_status

OTHER = GET.replace(b"GET /", b"GET /other")


class Choosing:
    """Chooses the same changes for each head, and keeps the targets for which it was asked."""

    def __init__(self, request=None, response=None):
        self.request, self.response, self.asked = request, response, []

    def choose_request_changes(self, head):
        self.asked.append(("request", head.target))
        return self.request

    def choose_response_changes(self, head):
        self.asked.append(("response", head.target))
        return self.response


class Applying:
    """Makes the same changes in `on_request` and `on_response`."""

    def __init__(self, request=None, response=None):
        self.request, self.response = request, response

    def on_request(self, exchange):
        if self.request is not None:
            exchange.request_headers.apply(self.request)

    def on_response(self, exchange):
        if self.response is not None:
            exchange.response_headers.apply(self.response)


class Mixed(Choosing):
    """Does both: it notes what it finds of the field A, and adds to it."""

    def __init__(self, name, notes):
        super().__init__(FieldChanges([("add", b"A", name)]), FieldChanges([("add", b"A", name)]))
        self.name, self.notes = name, notes

    def on_request(self, exchange):
        self.notes.append((self.name, b"".join(exchange.request_headers.get_all(b"A"))))
        exchange.request_headers.add(b"A", self.name.lower())

    def on_response(self, exchange):
        self.notes.append((self.name, b"".join(exchange.response_headers.get_all(b"A"))))
        exchange.response_headers.add(b"A", self.name.lower())


async def repeat(world, client, request, answer=OK):
    """Send a request over a client's connection, and let the server that has it answer; return both heads."""
    client.send(request)
    await world.settle()
    server = world.let_connect() if world.connects else world.servers[-1]
    await world.settle()
    received = server.take()
    server.send(answer)
    return received, client.take()


async def test_changes_are_made_where_the_middleware_is_and_before_its_own_calls(open_world):
    notes = []
    async with open_world(middlewares=[Mixed(b"X", notes), Mixed(b"Y", notes)]) as world:
        client, server = await ask(world)
        assert b"\r\nA: X\r\nA: x\r\nA: Y\r\nA: y\r\n" in server.take()
        server.send(OK)
        assert b"\r\nA: Y\r\nA: y\r\nA: X\r\nA: x\r\n" in client.take()
    assert notes == [(b"X", b"X"), (b"Y", b"XxY"), (b"Y", b"Y"), (b"X", b"YyX")]


async def test_a_head_that_a_client_repeats_is_asked_for_once(open_world):
    choosing = Choosing(FieldChanges([("set", b"A", b"1")]), FieldChanges([("set", b"B", b"2")]))
    async with open_world(middlewares=[choosing]) as world:
        client = world.open_client()
        for request in (GET, GET, OTHER, GET):
            received, answer = await repeat(world, client, request)
            assert b"\r\nA: 1\r\n" in received
            assert b"\r\nB: 2\r\n" in answer
    assert choosing.asked == [(kind, target) for target in (b"/", b"/other", b"/") for kind in ("request", "response")]


async def test_another_configuration_is_in_force_for_the_next_request_with_the_same_head(open_world):
    async with open_world(middlewares=[Choosing(response=FieldChanges([("set", b"A", b"1")]))]) as world:
        client = world.open_client()
        assert b"\r\nA: 1\r\n" in (await repeat(world, client, GET))[1]
        world.apply(middlewares=[Choosing(response=FieldChanges([("set", b"A", b"2")]))], servers=1)
        assert b"\r\nA: 2\r\n" in (await repeat(world, client, GET))[1]


@pytest.mark.parametrize(
    "wrong", [FieldChanges([("set", b"Host", b"b")]), FieldChanges([("add", b"A", b"\r\n")]), True, [], (), "A: 1"]
)
async def test_what_cannot_be_changed_fails_the_exchange_each_time(open_world, wrong):
    async with open_world(middlewares=[Choosing(request=wrong)]) as world:
        client = world.open_client()
        for _ in range(2):
            client.send(GET)
            assert get_status(client) == 500
        assert not world.connects
    async with open_world(middlewares=[Choosing(response=wrong)]) as world:
        client, server = await ask(world)
        server.send(OK)
        assert get_status(client) == 500


class Failing(Choosing):
    def choose_request_changes(self, head):
        raise RuntimeError("no")


async def test_one_that_raises_fails_the_exchange_and_nothing_is_sent(open_world):
    async with open_world(middlewares=[Failing()]) as world:
        client = world.open_client()
        client.send(GET)
        assert get_status(client) == 500
        assert not world.connects


async def test_the_response_of_every_attempt_is_changed_once(open_world):
    class Again(Choosing):
        def on_response(self, exchange):
            return exchange.status == 503

    middleware = Again(response=FieldChanges([("add", b"A", b"1")]))
    async with open_world(middlewares=[middleware], servers=2) as world:
        client, first = await ask(world)
        first.send(BUSY)
        second = await world.accept()
        second.send(OK)
        client.expect(OK.replace(b"Content-Length: 2\r\n", b"Content-Length: 2\r\nA: 1\r\n"))


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "add", "remove", "list"]),
        st.sampled_from([b"A", b"Server", b"Vary", b"Date"]),
        st.sampled_from([b"1", b"two"]),
    ),
    max_size=4,
)
FIELDS = st.lists(st.sampled_from([b"Server: x\r\n", b"a: 0\r\n", b"Vary: Accept\r\n", b"X: y\r\n"]), max_size=3)
BODIES = st.sampled_from(
    [b"Content-Length: 2\r\n\r\nok", b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
)
REQUESTS = st.sampled_from(
    [GET, OTHER, GET.replace(b"GET", b"HEAD"), GET.replace(b"1.1", b"1.0"), GET[:-2] + b"A: 0\r\nserver: z\r\n\r\n"]
)


async def carry(middlewares, messages):
    """Carry messages over one connection; return what servers and the client have received."""
    received = []
    async with _open_world(middlewares=middlewares) as world:
        client = world.open_client()
        for request, fields, body, cut in messages:
            answer = b"HTTP/1.1 200 OK\r\n" + b"".join(fields) + body
            if request.startswith(b"HEAD"):
                answer = answer[: answer.index(b"\r\n\r\n") + 4]
            client.send(request)
            await world.settle()
            server = world.let_connect() if world.connects else world.servers[-1]
            await world.settle()
            received.append(server.take())
            for piece in (answer[:cut], answer[cut:]):
                if piece:
                    server.send(piece)
            received.append(client.take())
            if b"HTTP/1.0" in request:
                await world.settle()
                client = world.open_client()
    return received


@given(
    st.tuples(CHANGES, CHANGES),
    st.lists(st.tuples(REQUESTS, FIELDS, BODIES, st.integers(0, 90)), min_size=1, max_size=4),
)
def test_the_same_bytes_are_sent_as_by_changes_in_on_request_and_on_response(changes, messages):
    """Each message is sent twice, cut into two pieces somewhere."""
    chosen, applied = (type_(*(FieldChanges(each) for each in changes)) for type_ in (Choosing, Applying))
    twice = [message for message in messages for _ in range(2)]
    assert asyncio.run(carry([chosen], twice)) == asyncio.run(carry([applied], twice))


# --- the backend


class Session:
    """Chooses a server by number for each head, and says for which responses it was called."""

    keeps_choice = True

    def __init__(self, number=1, part=""):
        self.choice: object = BackendChoice(part=part, server=(f"10.0.1.{number}", 80))
        self.asked, self.answered = [], []

    def choose_backend(self, head, backends):
        self.asked.append(head.target)
        if isinstance(self.choice, Exception):
            raise self.choice
        return self.choice

    def on_response(self, exchange):
        self.answered.append(exchange.server)


async def test_a_kept_choice_is_made_once_for_a_head_and_its_response_is_not_looked_at(open_world):
    session = Session()
    async with open_world(middlewares=[session], servers=2) as world:
        client = world.open_client()
        for request in (GET, GET, OTHER, GET):
            await repeat(world, client, request)
            assert world.servers[-1].transport.name == "server 10.0.1.1"
    assert (session.asked, session.answered) == ([b"/", b"/other", b"/"], [])


async def test_without_a_choice_every_response_is_looked_at(open_world):
    session = Session()
    session.choice = None
    async with open_world(middlewares=[session]) as world:
        client = world.open_client()
        for _ in range(3):
            await repeat(world, client, GET)
    assert (session.asked, session.answered) == ([b"/"], [("10.0.1.1", 80)] * 3)


async def test_the_response_of_another_server_than_the_kept_one_is_looked_at(open_world):
    session = Session()

    class Elsewhere:
        allowed = None

        def on_request(self, exchange):
            exchange.allowed_servers = self.allowed

    elsewhere = Elsewhere()
    async with open_world(middlewares=[session, elsewhere], servers=2) as world:
        client = world.open_client()
        await repeat(world, client, GET)
        elsewhere.allowed = {("10.0.1.2", 80)}
        await repeat(world, client, GET)
        elsewhere.allowed = None
        await repeat(world, client, GET)
    assert (session.asked, session.answered) == ([b"/"], [("10.0.1.2", 80)])


async def test_a_kept_server_that_is_set_aside_is_not_used(open_world):
    session = Session()
    async with open_world(middlewares=[session], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        assert await world.refuse() == "10.0.1.1"
        assert get_status(client) == 502
        await repeat(world, client, GET)
        assert world.servers[-1].transport.name == "server 10.0.1.2"
    assert (session.asked, session.answered) == ([b"/"], [("10.0.1.2", 80)])


async def test_a_choice_that_has_failed_is_made_again(open_world):
    session = Session()
    choice, session.choice = session.choice, ValueError("no")
    async with open_world(middlewares=[session], servers=1) as world:
        client = world.open_client()
        await repeat(world, client, GET)
        session.choice = choice
        await repeat(world, client, GET)
    assert (session.asked, session.answered) == ([b"/", b"/"], [("10.0.1.1", 80)])


async def test_a_choice_that_depends_on_more_than_the_head_is_made_for_each_request(open_world):
    session = Session()
    session.keeps_choice = False
    async with open_world(middlewares=[session], servers=1) as world:
        client = world.open_client()
        for _ in range(2):
            await repeat(world, client, GET)
    assert (session.asked, session.answered) == ([b"/", b"/"], [("10.0.1.1", 80)] * 2)


@pytest.mark.parametrize("part", ["p1", "p2"])
async def test_a_kept_choice_is_of_the_part_that_was_chosen_with_the_server(open_world, part):
    session = Session(1, part)
    parts = tuple(Part(service=name, weight=1) for name in ("p1", "p2"))
    services = {"w": build_service(parts=parts), "p1": build_service(1), "p2": build_service(1)}
    rules = build_rules(("/", HttpRule(service="w", middlewares=("m",))))
    async with open_world() as world:
        apply(world, services, {"m": session}, rules=rules)
        client = world.open_client()
        for _ in range(3):
            await repeat(world, client, GET)
    assert (session.asked, session.answered) == ([b"/"], [])
