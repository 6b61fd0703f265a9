"""The HTTP engine without sockets: what one exchange costs in Python alone, to a tenth of a microsecond.

Transports that take bytes and say nothing stand for the two connections, so the kernel's part, which is most of a
request's price and most of its noise, is left out.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from maesh_core.model.configuration import (
    HttpBranch,
    HttpOrder,
    HttpRouter,
    HttpRule,
    HttpRules,
    Part,
    Section,
    Server,
    Service,
)
from maesh_core.model.matches import HttpMatch
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.http.clients.client_connection import ClientConnection
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.http.routing_table import HttpTable
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import ProxySettings

HOST = "bench.bench.maesh"
SERVICE = "bench/bench:80"
SERVER = ("127.0.3.1", 80)
ENTRYPOINT = 5000
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Mon, 02 Nov 2026 08:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 20\r\nConnection: keep-alive\r\n\r\na server says hello\n"
)


class DeafTransport(asyncio.Transport):
    """Takes everything."""

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else default


class Engine:
    """A handler with one service and one pooled connection to it. To be made inside a running event loop.

    Each of `splits` is what a branch of its own matches; it divides among two services with that same server. Each of
    `rules` is the match of a rule, with one such service.
    """

    def __init__(
        self,
        middlewares: Sequence[Middleware] = (),
        *,
        splits: Sequence[Sequence[HttpMatch]] = (),
        rules: Sequence[HttpMatch] = (),
        **settings: Any,
    ) -> None:
        self.handler = HttpHandler(ProxySettings(**settings), Clock(asyncio.get_running_loop()))
        keys = tuple(f"{SERVICE}/{number}" for number, _ in enumerate(middlewares))
        branches = tuple(
            HttpBranch(service=f"{SERVICE}/split/{number}", matches=tuple(matches))
            for number, matches in enumerate(splits)
        )
        router = HttpRouter(entrypoint=ENTRYPOINT, hosts=(HOST,), service=SERVICE, middlewares=keys, branches=branches)
        server = Service(servers=(Server(address=SERVER[0], port=SERVER[1]),))
        services = {SERVICE: server}
        for branch in branches:
            leaves = {f"{branch.service}/v1": 9, f"{branch.service}/v2": 1}
            parts = tuple(Part(service=key, weight=weight) for key, weight in leaves.items())
            services |= {**dict.fromkeys(leaves, server), branch.service: Service(parts=parts)}
        if rules:
            found = tuple(
                HttpRule(service=f"{SERVICE}/rule/{number}", middlewares=keys) for number, _ in enumerate(rules)
            )
            services |= {each.service: Service(parts=(Part(service=SERVICE, weight=1),)) for each in found}
            order = tuple(HttpOrder(rule=number, match=match) for number, match in enumerate(rules))
            router = msgspec.structs.replace(router, service=None, rules=HttpRules(rules=found, order=order))
        section = Section(routers={SERVICE: router}, services=services)
        instances = dict(zip(keys, middlewares, strict=True))
        self.handler.apply_table(self.handler.compile_table(section, middlewares=instances, changed=None))
        (pool,) = self.handler._servers.values()
        self.upstream = UpstreamConnection(pool)
        self.upstream.connection_made(DeafTransport())
        pool.idle.append(self.upstream)

    def connect(self) -> Callable[[bytes], None]:
        """Connect a client; return what carries one request, and its response, through the engine."""
        client = ClientConnection(self.handler.environment, self.handler.current, ENTRYPOINT)
        client.connection_made(DeafTransport())
        ask, answer = client.data_received, self.upstream.data_received

        def carry(request: bytes) -> None:
            ask(request)
            answer(RESPONSE)

        return carry

    def close(self) -> None:
        """End everything."""
        self.handler.abort()
        self.handler.environment.clock.close()

    def count_answered(self) -> int:
        """Count the requests that were answered with 200; any other answer is an error."""
        assert isinstance(self.handler.current.table, HttpTable)
        (counters,) = self.handler.current.table.counters.values()
        ((status, number),) = counters.statuses.by_status.items()
        assert status == 200, counters
        return number


def build_request(number: int = 1) -> bytes:
    """Build a small GET, as wrk.lua does."""
    return (
        b"GET /items/%d?page=%d HTTP/1.1\r\nHost: %b\r\nAccept: */*\r\nUser-Agent: bench/%d\r\n"
        b"X-Request-Id: %08x-%08x\r\n\r\n"
        % (number, number % 7, HOST.encode(), number % 100, number * 2654435761 % 4294967296, number)
    )
