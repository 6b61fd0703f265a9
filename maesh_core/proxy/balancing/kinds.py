"""The kinds of load balancers: those of the core, and those of plugins.

Takes the factories from the hooks. Reports why a service's load balancer cannot be used, and builds the balancers. A
plugin's balancer chooses among usable servers only: the core decides which servers are usable, and when to try one that
was set aside.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from maesh_core.model.configuration import ROUND_ROBIN, Service
from maesh_core.plugin_system.hookspecs import BalancerFactory, Chooser
from maesh_core.plugin_system.interfaces import BalancedServer
from maesh_core.proxy.balancing.balancer import (
    KINDS,
    AnyBalancer,
    Balanced,
    begin_due_trial,
    build_balancer,
    pick_spare,
)

logger = logging.getLogger(__name__)


class Choosable(Balanced, BalancedServer, Protocol):
    """A server with the attributes that the core and plugins need."""


ChoosableT = TypeVar("ChoosableT", bound=Choosable)


class BalancerKinds:
    """The load balancers of one process, by the name that services use."""

    __slots__ = ("_factories",)

    def __init__(self, factories: Mapping[str, BalancerFactory] | None = None) -> None:
        self._factories = factories or {}

    def __repr__(self) -> str:
        return f"<BalancerKinds {', '.join(sorted({*KINDS, *self._factories}))}>"

    def find_problem(self, service: Service) -> tuple[str, str] | None:
        """Return why a service's load balancer cannot be used, and details that only operators may see; or None."""
        name = service.load_balancer
        if name in KINDS:
            return None
        factory = self._factories.get(name)
        if factory is None:
            return f"load balancer {name} is not loaded by this proxy", ""
        try:
            msgspec.convert(service.load_balancer_settings, factory.settings_type)
        except msgspec.ValidationError as error:
            return f"load balancer {name} has invalid settings", str(error)
        return None

    def build(
        self,
        servers: Sequence[tuple[ChoosableT, int]],
        service: Service,
        *,
        former: "AnyBalancer[ChoosableT] | ChosenBalancer[ChoosableT] | None" = None,
    ) -> "AnyBalancer[ChoosableT] | ChosenBalancer[ChoosableT]":
        """Build the balancer of a service; it continues from the service's previous one."""
        factory = self._factories.get(service.load_balancer)
        if factory is None or self.find_problem(service) is not None:  # its routers are refused in this case
            kept = None if isinstance(former, ChosenBalancer) else former
            return build_balancer(servers, service.load_balancer, former=kept)
        before = former.chooser if isinstance(former, ChosenBalancer) and former.name == factory.name else None
        usable = [(server, weight) for server, weight in servers if weight > 0]
        try:
            settings = msgspec.convert(service.load_balancer_settings, factory.settings_type)
            chooser = factory.build_balancer(settings, usable, before)
            if not callable(getattr(chooser, "choose", None)):
                raise TypeError(f"{type(chooser).__qualname__} has no method choose")
        except Exception:  # an error of a plugin affects only services that use it
            logger.exception("load balancer %s failed; its service uses %s instead", factory.name, ROUND_ROBIN)
            return build_balancer(servers)
        return ChosenBalancer(factory.name, chooser, usable)


class ChosenBalancer(Generic[ChoosableT]):
    """Lets a plugin choose. If it fails, servers are picked in rotation, and the first failure is logged."""

    __slots__ = ("_has_failed", "_servers", "_turns", "chooser", "name")

    def __init__(self, name: str, chooser: Chooser, servers: Sequence[tuple[ChoosableT, int]]) -> None:
        self.name = name
        self.chooser = chooser
        self._servers = tuple(server for server, _ in servers)
        self._turns = build_balancer(servers)
        self._has_failed = False

    def __repr__(self) -> str:
        return f"<ChosenBalancer {self.name} {self.chooser!r}>"

    @property
    def servers(self) -> tuple[ChoosableT, ...]:
        """All servers with a weight above 0."""
        return self._servers

    def pick(self, tried: Collection[ChoosableT] = (), exchange: Any = None) -> ChoosableT | None:
        """Pick the server that the plugin chooses among those in full use that were not tried."""
        usable = []
        for server in self._servers:
            if server in tried:
                continue
            if server.aside is None:
                usable.append(server)
            elif begin_due_trial(server.aside):
                return server
        if not usable:
            return pick_spare(self._servers, tried)
        try:
            return usable[usable.index(self.chooser.choose(exchange, usable))]  # type: ignore[arg-type]
        except Exception:  # as above
            if not self._has_failed:
                logger.exception("load balancer %s failed; servers are picked in rotation when it fails", self.name)
            self._has_failed = True
            return self._turns.pick(tried)
