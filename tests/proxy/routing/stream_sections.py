"""Builds sections of one stream service, reads their routes, and has a middleware with fixed verdicts."""

from types import SimpleNamespace

from maesh_core.model.configuration import Part, Section, Server, Service, StreamRouter

KEY = "test/db:1"
ENTRYPOINT = 10000


def build_section(*ports, weights=None, middlewares=(), key=KEY, entrypoint=ENTRYPOINT, load_balancer="round-robin"):
    servers = tuple(
        Server(address="10.0.0.1", port=port, weight=weight)
        for port, weight in zip(ports, weights or [1] * len(ports), strict=True)
    )
    return Section(
        routers={key: StreamRouter(entrypoint=entrypoint, service=key, middlewares=tuple(middlewares))},
        services={key: Service(servers=servers, load_balancer=load_balancer)},
    )


class Gate:
    """A middleware that returns the given verdicts. A verdict that is an exception is raised."""

    def __init__(self, *, admits=True, keeps=True):
        self.admits, self.keeps = admits, keeps

    def on_connect(self, connection):
        return self._answer(self.admits)

    def is_still_allowed(self, connection):
        return self._answer(self.keeps)

    def _answer(self, answer):
        if isinstance(answer, Exception):
            raise answer
        return answer


def apply(streams, section, *, changed=None, **middlewares):
    streams.apply_table(streams.compile_table(section, middlewares=middlewares, changed=changed))
    return streams.routes.get(ENTRYPOINT)


def list_ports(route):
    return [server.socket_address[1] for server in route.list_servers()]


def find_first(route):
    return next(iter(route.list_servers())).socket_address[1]


def connect(service=KEY):
    return SimpleNamespace(client_address="10.0.0.9", entrypoint=ENTRYPOINT, service=service, exchange=None)


def build_divided(shares, **ports):
    services = {
        name: Service(servers=tuple(Server(address="10.0.0.1", port=port) for port in found))
        for name, found in ports.items()
    }
    parts = tuple(Part(service=name, weight=weight) for name, weight in shares.items())
    router = StreamRouter(entrypoint=ENTRYPOINT, service=KEY)
    return Section(routers={KEY: router}, services={**services, KEY: Service(parts=parts)})


def read_parts(streams, name):
    (family,) = [
        each
        for each in streams.collect_parts("tcp", opened="connections", failed="failed_connects")
        if each.name == f"maesh_tcp_{name}"
    ]
    return dict(family.samples)


def use_all(route):
    """Count a connection to each server, and as many bytes as its port has."""
    for server in list(route.list_servers()):
        route.count_opened(server)
        route.count_bytes(server, received=server.socket_address[1], sent=100)
