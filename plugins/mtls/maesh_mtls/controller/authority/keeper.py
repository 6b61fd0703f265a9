"""Keeps the authority of a store: makes it if it is missing, follows its changes, and keeps the last good one.

Every controller runs one; those that share a store sign with the same authority. Takes a store and how to read it;
returns the current authority, and reports what is wrong with the store. The store is read again before a signature; its
watch only says when to read it, because what a watch yields may be older than what was read.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from maesh_core.plugin import ConfigurationError, MetricFamily
from maesh_mtls.controller.authority.ca import SigningAuthority
from maesh_mtls.controller.authority.stores import AuthorityStore, StoreConflictError, Stored, StoreError

ORIGIN: Final = "mtls authority"
"""What problems of the authority are reported as."""
RETRY_S: Final = 5.0
"""Time before another attempt to read the store after a change, or to make the authority."""

Read = Callable[[Stored, datetime], SigningAuthority]
"""Reads the authority from the content of a store. Raises ConfigurationError."""
Make = Callable[[datetime], Mapping[str, bytes]]
"""Makes the files of a new authority."""

_log = logging.getLogger(__name__)


class AuthorityUnavailableError(ConfigurationError):
    """There is no authority that could sign now."""


def describe(authority: SigningAuthority) -> tuple[object, ...]:
    """Return what differs between two authorities: all but the key, which belongs to the certificate."""
    return authority.certificate, authority.intermediates, authority.bundle


def read_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


class AuthorityKeeper:
    """The authority of one controller. `make` is None if a missing authority must not be made."""

    name = "mtls authority"

    def __init__(
        self,
        store: AuthorityStore,
        *,
        read: Read,
        make: Make | None,
        report: Callable[[str, str | None], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = read_now,
    ) -> None:
        self.store = store
        self._read = read
        self._make = make
        self._report = report
        self._pause = pause
        self._now = now
        self._stored = Stored()
        self._current: SigningAuthority | None = None
        self._problem: str | None = None
        self._listeners: list[Callable[[], None]] = []
        self._reads = 0
        self._used_read = 0
        """The number of reads, and that of the read whose content was used last."""

    def __repr__(self) -> str:
        return f"<AuthorityKeeper {self.store.place}>"

    @property
    def current(self) -> SigningAuthority | None:
        """The last good authority; None before there is one."""
        return self._current

    def get(self) -> SigningAuthority:
        """Return the last good authority. Raises AuthorityUnavailableError before there is one."""
        if self._current is None:
            raise AuthorityUnavailableError("there is no authority yet")
        return self._current

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call this after each change of `current`."""
        self._listeners.append(listener)

    async def load(self) -> SigningAuthority:
        """Read the store and return the authority; if its content is wrong, the last good one stays in use.

        Raises AuthorityUnavailableError if the store cannot be read, so that nothing is signed by a former authority.
        """
        try:
            await self.read()
        except StoreError as error:
            raise AuthorityUnavailableError(str(error)) from error
        return self.get()

    async def read(self) -> Stored:
        """Read the store, and use its content unless that of a later read is in use. Raises StoreError."""
        self._reads += 1
        number = self._reads
        stored = await self.store.load()
        if number > self._used_read:
            self._used_read = number
            self.use(stored)
        return stored

    async def run(self) -> None:
        """Make the authority if it is missing, and follow the store, until cancelled."""
        async for _ in self.store.watch():
            while not await self._follow():
                await self._pause(RETRY_S)

    def use(self, stored: Stored) -> None:
        """Use the content of a store; if it is wrong, report that, and keep the last good one."""
        if not stored.version:
            return
        if stored.version == self._stored.version:
            self._set_problem(None)
            return
        try:
            authority = self._read(stored, self._now())
        except ConfigurationError as error:
            self._set_problem(str(error))
            return
        before = self._current
        self._current, self._stored = authority, stored
        self._set_problem(None)
        if before is not None and before.certificate != authority.certificate:
            _log.warning("another authority of %s signs from now on", self.store.place)
        if before is None or describe(before) != describe(authority):
            for listener in self._listeners:
                listener()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return when the authority's certificate ends, and whether the store has a problem."""
        ends = () if self._current is None else (((), self._current.certificate.not_valid_after_utc.timestamp()),)
        return [
            MetricFamily(
                name="maesh_mtls_authority_expiry_seconds",
                type="gauge",
                help="The Unix time at which the certificate of the authority ends.",
                samples=ends,
            ),
            MetricFamily(
                name="maesh_mtls_authority_problem",
                type="gauge",
                help="Whether the store of the authority has something that cannot be used (1) or not (0).",
                samples=(((), 0 if self._problem is None else 1),),
            ),
        ]

    async def _follow(self) -> bool:
        """Use what the store has now, or restore it; returns whether it could be read."""
        try:
            stored = await self.read()
        except StoreError as error:
            self._set_problem(f"it cannot be read: {error}")
            return False
        if not stored.version:
            await self._restore()
        return True

    async def _restore(self) -> None:
        """Write what a missing store should have: the last good content, or a new authority."""
        if self._make is None:
            self._set_problem("it is missing")
            return
        while True:
            files = self._stored.files or self._make(self._now())
            try:
                await self.store.write(files, self._stored.rotation, version="")
            except StoreConflictError:
                return  # another controller was first
            except StoreError as error:
                self._set_problem(f"it is missing, and cannot be created: {error}")
                await self._pause(RETRY_S)
            else:
                _log.warning(
                    "%s was missing; it was %s", self.store.place, "restored" if self._stored.files else "made"
                )
                return
            if await self._exists():
                return

    async def _exists(self) -> bool:
        """Whether somebody else has created the store meanwhile."""
        try:
            return bool((await self.store.load()).version)
        except StoreError:
            return False

    def _set_problem(self, problem: str | None) -> None:
        if problem is not None and self._current is not None:
            problem = f"{problem}; the former authority stays in use"
        if problem == self._problem:
            return
        self._problem = problem
        text = None if problem is None else f"{self.store.place}: {problem}"
        if text is None:
            _log.warning("%s can be used again", self.store.place)
        else:
            _log.error("%s", text)
        self._report(ORIGIN, text)
