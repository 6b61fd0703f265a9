"""Which balancers there are: the core's, and those that plugins give; and what a plugin's needs to be one.

Takes what the hooks gave. Says why a service cannot be balanced as it says, and builds what balances the others. A
plugin's chooses among usable servers alone: which those are, and when one that was set aside is tried, stays the
core's business.
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
    """A server as the core sees it, and as a plugin does."""


ChoosableT = TypeVar("ChoosableT", bound=Choosable)


class BalancerKinds:
    """The balancers of one process, by the name that a service gives."""

    __slots__ = ("_factories",)

    def __init__(self, factories: Mapping[str, BalancerFactory] | None = None) -> None:
        self._factories = factories or {}

    def __repr__(self) -> str:
        return f"<BalancerKinds {', '.join(sorted({*KINDS, *self._factories}))}>"

    def find_problem(self, service: Service) -> tuple[str, str] | None:
        """Say why a service cannot be balanced as it says, and, for those who run the mesh alone, the details."""
        name = service.load_balancer
        if name in KINDS:
            return None
        factory = self._factories.get(name)
        if factory is None:
            return f"load balancer {name} is not known to this proxy", ""
        try:
            msgspec.convert(service.load_balancer_settings, factory.settings_type)
        except msgspec.ValidationError as error:
            return f"load balancer {name} does not take its settings", str(error)
        return None

    def build(
        self,
        servers: Sequence[tuple[ChoosableT, int]],
        service: Service,
        *,
        former: "AnyBalancer[ChoosableT] | ChosenBalancer[ChoosableT] | None" = None,
    ) -> "AnyBalancer[ChoosableT] | ChosenBalancer[ChoosableT]":
        """Build what balances a service; it takes over from what the service had before."""
        factory = self._factories.get(service.load_balancer)
        if factory is None or self.find_problem(service) is not None:  # the router is refused then
            kept = None if isinstance(former, ChosenBalancer) else former
            return build_balancer(servers, service.load_balancer, former=kept)
        before = former.chooser if isinstance(former, ChosenBalancer) and former.name == factory.name else None
        usable = [(server, weight) for server, weight in servers if weight > 0]
        try:
            settings = msgspec.convert(service.load_balancer_settings, factory.settings_type)
            chooser = factory.build_balancer(settings, usable, before)
            if not callable(getattr(chooser, "choose", None)):
                raise TypeError(f"{type(chooser).__qualname__} has no method choose")
        except Exception:  # an update is an edge: a plugin's code harms its own services' balance alone
            logger.exception("load balancer %s failed; a service of it is balanced by %s", factory.name, ROUND_ROBIN)
            return build_balancer(servers)
        return ChosenBalancer(factory.name, chooser, usable)


class ChosenBalancer(Generic[ChoosableT]):
    """Has a plugin choose. Where that fails, servers come in turn, and the log says so once."""

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
        """All servers that have weight."""
        return self._servers

    def pick(self, tried: Collection[ChoosableT] = (), asker: Any = None) -> ChoosableT | None:
        """Pick the server that the plugin chooses for an exchange, among those in full use that were not tried."""
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
            return usable[usable.index(self.chooser.choose(asker, usable))]  # type: ignore[arg-type]
        except Exception:  # one exchange is an edge, as above
            if not self._has_failed:
                logger.exception("load balancer %s failed; its servers come in turn where it does", self.name)
            self._has_failed = True
            return self._turns.pick(tried)
