"""Runs the services of plugins in the node's parent, such as one that renews a certificate.

Takes the services that plugins provide; passes what they hand over to the transports of all workers, also to workers
that start later, and shows what they report. A service that fails is started again after a growing pause. It knows
neither plugins nor transports.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from maesh_core.model.facts import FACTS_LIMIT, is_fact
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.names import NAME_ADDRESSES, AddressTable, encode_addresses
from maesh_core.process.backoff import Backoff
from maesh_core.process.tls_credentials import TlsCredentials
from maesh_core.proxy.workers.link import WorkerLink
from maesh_core.proxy.workers.messages import HandOver

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Pauses before a failed service is started again; they double with every consecutive failure."""
STARTING_LIMIT_S = 60.0
"""How long after the first configuration a service that is starting keeps the node from being ready. A node whose
certificate is not signed can still route what needs none."""
STEADY_S = 60.0
"""A service that ran this long is started again after the first pause."""

logger = logging.getLogger(__name__)


class NodeService(Protocol):
    """A task of the node's parent."""

    name: str

    async def run(self) -> None:
        """Run until cancelled."""


class Workers(Protocol):
    """The pool of workers."""

    @property
    def joined(self) -> Sequence[WorkerLink]:
        """The workers that have the configuration."""


class Security(Protocol):
    """The protection of what the parent serves and asks."""

    def protect(self, is_controller: Callable[[Mapping[str, Any]], bool]) -> None:
        """Let only controllers read the admin port."""

    def use(self, credentials: TlsCredentials) -> None:
        """Use the node's certificate. Raises OSError or ValueError if it cannot be used."""


class Parent:
    """The parent as the services of one plugin see it: a `ParentNode`."""

    __slots__ = ("_services", "facts", "families", "name", "settings", "state")

    def __init__(self, services: "NodeServices", settings: Any, name: str) -> None:
        self._services = services
        self.settings = settings
        self.name = name
        self.families: Sequence[MetricFamily] = ()
        self.state: Mapping[str, str] = {}
        self.facts: Mapping[str, str] = {}

    def __repr__(self) -> str:
        """Show the node's name."""
        return f"<Parent {self.name} {dict(self.state)}>"

    def hand(self, name: str, payload: bytes) -> None:
        """Pass the newest payload to the transport of this name in every worker, also in those that start later."""
        self._services.hand(name, payload)

    def publish_addresses(self, table: AddressTable) -> None:
        """Let all workers use these addresses of names, and no others, until the next call."""
        self._services.hand(NAME_ADDRESSES, encode_addresses(table))

    def protect(self, is_controller: Callable[[Mapping[str, Any]], bool]) -> None:
        """Protect the admin port: only who shows the certificate of a controller may read it."""
        if self._services.security is not None:
            self._services.security.protect(is_controller)

    def use_certificate(self, credentials: TlsCredentials) -> None:
        """Show this certificate at the admin port, and to the controller."""
        if self._services.security is None:
            return
        try:
            self._services.security.use(credentials)
        except (OSError, ValueError) as error:  # the text must not contain the key
            logger.error("the node's certificate cannot be used: %s", type(error).__name__)

    def report(self, families: Sequence[MetricFamily], state: Mapping[str, str]) -> None:
        """Show these metrics in `/metrics`, and this state in `/status`, until the next call."""
        self.families, self.state = tuple(families), dict(state)

    def tell_controller(self, facts: Mapping[str, str]) -> None:
        """Report these facts, by name, to the controller, until the next call. Raises ValueError for an invalid one."""
        for name, text in facts.items():
            if not is_fact(name, text):
                raise ValueError(f"{name!r} is not the name of a fact, or its text is too long or not printable")
        if facts != self.facts:
            self.facts = dict(facts)
            self._services.on_facts()


LoadServices = Callable[[Any, Callable[[str], Parent]], Sequence[NodeService]]
"""Loads the services that enabled plugins provide. Takes the settings, and a function that returns the parent as the
services of a plugin see it, by the plugin's name. Raises StartupError."""


class NodeServices:
    """The services of one node. Create it in the event loop; run it once."""

    __slots__ = (
        "_clock",
        "_configured_s",
        "_name",
        "_names",
        "_parents",
        "_pause",
        "_payloads",
        "_services",
        "_settings",
        "_shared",
        "_version",
        "_workers",
        "on_facts",
        "security",
    )

    def __init__(
        self,
        settings: Any,
        workers: Workers,
        load: LoadServices | None = None,
        *,
        name: str = "",
        security: Security | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._name = name
        self.security = security
        self._pause = pause
        self._clock = clock
        self._configured_s: float | None = None
        self._version = 0
        self._payloads: dict[str, tuple[int, bytes]] = {}
        self._parents: dict[str, Parent] = {}
        self._shared: Mapping[str, bytes] = {}
        self._names: frozenset[str] = frozenset()
        self.on_facts: Callable[[], None] = lambda: None
        """Called when services report other facts."""
        self._services = () if load is None else tuple(load(settings, self._open_parent))

    def __repr__(self) -> str:
        """Show the services."""
        return f"<NodeServices {', '.join(each.name for each in self._services) or 'none'}>"

    @property
    def is_starting(self) -> bool:
        """Whether a service still needs time until the node may receive traffic (`NodeService.is_starting`)."""
        if not any(getattr(service, "is_starting", False) for service in self._services):
            return False
        return self._configured_s is None or self._clock() - self._configured_s < STARTING_LIMIT_S

    def note_configured(self) -> None:
        """Note that the node has a configuration: only the first call counts."""
        if self._configured_s is None:
            self._configured_s = self._clock()

    async def run(self) -> None:
        """Keep all services running until cancelled; without services, only wait."""
        tasks = [asyncio.create_task(self._keep(service)) for service in self._services]
        try:
            await asyncio.gather(asyncio.Event().wait(), *tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def hand(self, name: str, payload: bytes) -> None:
        """Keep the newest payload for the transport of this name, and send it to all joined workers."""
        self._version += 1
        self._payloads[name] = (self._version, payload)
        for link in self._workers.joined:
            link.send(HandOver(name=name), payload=payload)

    def introduce(self, link: WorkerLink, *, since: int = 0) -> int:
        """Send a new worker the payloads that are newer than a version; return the version of the newest.

        Call it before the worker gets its configuration, and again once it has joined, with the returned version.
        """
        for name, (version, payload) in self._payloads.items():
            if version > since:
                link.send(HandOver(name=name), payload=payload)
        return self._version

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics that services report."""
        return [family for _, parent in sorted(self._parents.items()) for family in parent.families]

    def read_state(self) -> dict[str, Mapping[str, str]]:
        """Return the state that services report, by the name of their plugin."""
        return {name: parent.state for name, parent in sorted(self._parents.items()) if parent.state}

    def read_facts(self) -> Mapping[str, str]:
        """Return the facts that services report to the controller, by name."""
        facts = {name: text for _, parent in sorted(self._parents.items()) for name, text in parent.facts.items()}
        return dict(list(facts.items())[:FACTS_LIMIT])

    def share(self, values: Mapping[str, bytes]) -> None:
        """Pass on what the controller shares with all nodes: a value for the services of each transport, by name."""
        before, self._shared = self._shared, values
        for service in self._services:
            value = values.get(service.name)
            receive = getattr(service, "receive_shared", None)
            if receive is None or value is None or value == before.get(service.name):
                continue
            try:
                receive(value)
            except Exception as error:  # a plugin's service may raise anything
                logger.error("service %s failed: %s: %s", service.name, type(error).__name__, error)

    @property
    def wants_names(self) -> bool:
        """Whether a service resolves names."""
        return any(hasattr(service, "receive_names") for service in self._services)

    def share_names(self, names: frozenset[str]) -> None:
        """Pass on the names that the configuration has, if they have changed."""
        if names == self._names:
            return
        self._names = names
        for service in self._services:
            receive = getattr(service, "receive_names", None)
            if receive is None:
                continue
            try:
                receive(names)
            except Exception as error:  # a plugin's service may raise anything
                logger.error("service %s failed: %s: %s", service.name, type(error).__name__, error)

    def _open_parent(self, plugin: str) -> Parent:
        return self._parents.setdefault(plugin, Parent(self, self._settings, self._name))

    async def _keep(self, service: NodeService) -> None:
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            started_s = self._clock()
            failure: Exception | None = None
            try:
                await service.run()
            except Exception as error:  # a plugin's service may raise anything
                failure = error
            if self._clock() - started_s >= STEADY_S:
                backoff.reset()
            pause_s = backoff.next()
            reason = "ended" if failure is None else f"failed: {type(failure).__name__}: {failure}"
            logger.error("service %s %s; it is started again in %.1f s", service.name, reason, pause_s)
            logger.debug("the failure of service %s", service.name, exc_info=failure)
            await self._pause(pause_s)
