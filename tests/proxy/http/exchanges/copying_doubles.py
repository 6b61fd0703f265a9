"""Doubles for requests that are copied or changed: a middleware that does either, guards, and a side service."""

from maesh_core.model.configuration import HttpRouter, Middleware, Section, Server, Service
from maesh_core.proxy.transport.paths import Paths

ENTRYPOINT, HOST, SIDE = 5000, "a.test.maesh", "a/side"
GET = b"GET /x?y HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"


def go_elsewhere(exchange):
    exchange.new_target = b"/z"


class Copier:
    """Sends copies of the requests that it gets."""

    def __init__(self, *, service=SIDE, body=b"", times=1, then=None, change=None):
        self.service, self.body, self.times, self.then, self.change = service, body, times, then, change
        self.results = []

    def on_request(self, exchange):
        for _ in range(self.times):
            self.results.append(exchange.send_copy(self.service, self.body))
        if self.change is not None:
            self.change(exchange)
        return self.then


class Guard:
    """Answers as told whether what is changed or copied may be sent."""

    def __init__(self, *, change=True, copy=True, reads_headers=False):
        self.change, self.copy, self.changed, self.copied = change, copy, [], []
        self.reads_changed_headers = reads_headers

    def on_request(self, exchange):
        return None

    def judge_changed(self, exchange, sent):
        self.changed.append((sent.method, sent.target, sent.host))
        if isinstance(self.change, Exception):
            raise self.change
        return self.change

    def judge_copy(self, exchange, service, sent):
        self.copied.append((service, sent.target, sent.client_headers.get(b"x-a")))
        if isinstance(self.copy, Exception):
            raise self.copy
        return self.copy


class DeafGuard:
    """A guard of an earlier version, which has neither method."""

    def on_request(self, exchange):
        return None


def apply(world, *middlewares, guards=(), side_servers=1, scheme="http"):
    keys = tuple(f"m{index}" for index in range(len(middlewares)))
    router = HttpRouter(entrypoint=ENTRYPOINT, hosts=(HOST,), service="a", middlewares=keys, side_services=(SIDE,))
    side = tuple(Server(address=f"10.0.2.{number + 1}", port=80) for number in range(side_servers))
    kinds = [("guard" if each in guards else "other") for each in middlewares]
    section = Section(
        routers={"a": router},
        services={
            "a": Service(servers=(Server(address="10.0.1.1", port=80),)),
            SIDE: Service(servers=side, scheme=scheme),
        },
        middlewares={key: Middleware(kind=kind) for key, kind in zip(keys, kinds, strict=True)},
    )
    environment = world.handler.environment
    environment.paths = Paths("node", environment.clock, guard_kinds=("guard",))
    instances = dict(zip(keys, middlewares, strict=True))
    world.handler.apply_table(world.handler.compile_table(section, middlewares=instances, changed=None))


def read_outcomes(world):
    (family,) = world.handler.environment.copies.collect()
    return {outcome: count for (_, _, outcome), count in family.samples}


async def send(world, request=GET):
    """Send a request; return the client, and the servers that were connected to, by address."""
    client = world.open_client()
    client.send(request)
    await world.settle()
    servers = {}
    while world.connects:
        address = world.connects[0][1]
        servers[address] = await world.accept()
    return client, servers
