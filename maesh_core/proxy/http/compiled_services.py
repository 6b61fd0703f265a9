"""A service of the routing table, compiled: its servers, its balancer, and its answer if it cannot be reached."""

from typing import NamedTuple

from maesh_core.model.configuration import Part
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.balancing.balancer import AnyBalancer
from maesh_core.proxy.balancing.division import Division
from maesh_core.proxy.balancing.kinds import ChosenBalancer
from maesh_core.proxy.http.answers import NO_SERVER
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer

AnyServiceBalancer = AnyBalancer[HttpServer] | ChosenBalancer[HttpServer] | Division[HttpServer]


class CompiledService(NamedTuple):
    """A service: its servers and their weights, its balancer, and the keys of the routers that use it.

    `answer` is the response to a request for which it has no server.
    """

    servers: tuple[tuple[HttpServer, int], ...]
    balancer: AnyServiceBalancer
    users: frozenset[str]
    parts: tuple[Part, ...] = ()
    answer: Response = NO_SERVER
