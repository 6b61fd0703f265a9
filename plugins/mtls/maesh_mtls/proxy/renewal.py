"""Keeps the certificate of a node valid: the service in the parent process of a proxy.

Each renewal runs `python -m maesh_mtls.proxy.enrolment`, which makes the key, gets the certificate, writes both to its
output and ends. A certificate is renewed at half of its life, and when the controller says that others are trusted now,
or that another authority signs. If that fails, the last one stays in use while the
service tries again, at first after a second and later every 5 minutes. Keys stay in memory.
"""

import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from maesh_core.plugin import MetricFamily, ParentNode, TlsCredentials, start_process
from maesh_mtls.facts import render_facts, render_moment
from maesh_mtls.wire import Credentials, EnrolmentFailure, EnrolmentOrder, MeshShare

RENEWED_AT: Final = 0.5
"""The part of a certificate's life after which it is renewed."""
JITTER: Final = 0.1
"""The greatest change of this part, so that nodes that started together do not renew together."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
LONGEST_FIRST_PAUSE_S: Final = 20.0
"""Until the first certificate, the pauses are shorter: the proxy waits for it to be ready."""
OUTDATED_PAUSE_S: Final = 30.0
"""The first pause if a new certificate is not what the controller wants; it doubles, up to about an hour."""
PATIENCE_S: Final = 30.0
"""How long the enrolment process may run."""
OUTPUT_LIMIT_BYTES: Final = 256 * 1024
LOG_PERIOD_S: Final = 600.0
"""A failure that repeats is logged once in this time."""

_log = logging.getLogger(__name__)
_PROGRAM: Final = (sys.executable, "-P", "-m", "maesh_mtls.proxy.enrolment")


class EnrolmentError(Exception):
    """There are no new credentials. `reason` is a label of the metric."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Timing(NamedTuple):
    """How time passes; tests replace it."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[float, float], float] = random.uniform


class Renewal:
    """Implements `InformedService`."""

    name = "mtls"

    def __init__(
        self, parent: ParentNode, enrol_node: Callable[[], Awaitable[Credentials]], timing: Timing | None = None
    ) -> None:
        self._parent = parent
        self._enrol = enrol_node
        self._timing = timing or Timing()
        self._current: Credentials | None = None
        self._renewals = 0
        self._failures: Counter[str] = Counter()
        self._share: MeshShare | None = None
        self._is_outdated = asyncio.Event()
        self._outdated = 0
        """How many certificates in a row were not what the controller wants."""
        self._logged: tuple[str, float] = ("", 0.0)
        """The kind of the failure that was logged last, and when."""

    def __repr__(self) -> str:
        return f"<Renewal {self._current!r}>"

    @property
    def identity(self) -> str:
        """The identity in the node's certificate; empty without one."""
        return "" if self._current is None else self._current.identity

    @property
    def is_starting(self) -> bool:
        """Whether the node still waits for its first certificate, and should not be ready."""
        return self._current is None

    async def run(self) -> None:
        """Renew the certificate again and again."""
        failed = 0
        while True:
            try:
                credentials = await self._enrol()
            except EnrolmentError as error:
                failed += 1
                self._note_failure(error)
                await self._timing.sleep(self._choose_pause(failed))
                continue
            failed = 0
            self._use(credentials)
            await self._wait(credentials)

    def receive_shared(self, value: bytes) -> None:
        """Renew the certificate soon if the controller wants another one."""
        self._share = msgspec.json.decode(value, type=MeshShare)
        self._outdated = 0
        if self._is_other(self._current):
            self._is_outdated.set()

    def _is_other(self, credentials: Credentials | None) -> bool:
        """Whether a certificate, or what is trusted with it, is not what the controller wants."""
        share = self._share
        if share is None or credentials is None:
            return False
        return (credentials.trust, credentials.authority) != (share.trust, share.authority)

    async def _wait(self, credentials: Credentials) -> None:
        """Wait until it is time for the next certificate."""
        self._is_outdated.clear()
        pause = self._choose_wait(credentials)
        if self._is_other(credentials):  # for instance because the file `mtls.trust` has not followed yet
            self._outdated += 1
            pause = min(pause, OUTDATED_PAUSE_S * 2.0 ** min(self._outdated - 1, 7))
        else:
            self._outdated = 0
        sleeping = asyncio.ensure_future(self._timing.sleep(pause))
        changing = asyncio.ensure_future(self._is_outdated.wait())
        try:
            await asyncio.wait((sleeping, changing), return_when=asyncio.FIRST_COMPLETED)
            if sleeping.done():
                sleeping.result()
        finally:
            for task in (sleeping, changing):
                task.cancel()
            await asyncio.gather(sleeping, changing, return_exceptions=True)
        if self._is_outdated.is_set() and self._share is not None:
            await self._timing.sleep(self._timing.draw(0.0, self._share.within_s))

    def _use(self, credentials: Credentials) -> None:
        self._current = credentials
        self._renewals += 1
        self._logged = ("", 0.0)
        self._parent.hand(self.name, msgspec.json.encode(credentials))
        self._parent.use_certificate(
            TlsCredentials(key=credentials.key, chain=credentials.chain, bundle=credentials.bundle)
        )
        _log.info("the node has a certificate until %s", render_moment(credentials.not_after))
        self._report("valid")

    def _note_failure(self, error: EnrolmentError) -> None:
        self._failures[error.reason] += 1
        now, current = self._timing.now(), self._current
        if current is None:
            state, level = "none", logging.WARNING
        elif now >= current.not_after:
            state, level = "expired", logging.ERROR
        else:
            state, level = "overdue", logging.WARNING
        kind = f"{state} {error.reason}"
        if kind != self._logged[0] or now - self._logged[1] >= LOG_PERIOD_S:
            self._logged = (kind, now)
            _log.log(level, "%s: %s", self._describe(state), error)
        self._report(state, problem=str(error))

    def _describe(self, state: str) -> str:
        if self._current is None:
            return "the node has no certificate, because it cannot get one"
        ends = render_moment(self._current.not_after)
        if state == "expired":
            return f"the node's certificate has expired at {ends}, and cannot be renewed"
        return f"the node's certificate ends at {ends}, and cannot be renewed"

    def _choose_pause(self, failed: int) -> float:
        """Return the pause after so many failures in a row."""
        limit = LONGEST_FIRST_PAUSE_S if self._current is None else LONGEST_PAUSE_S
        longest = min(FIRST_PAUSE_S * 2.0 ** min(failed - 1, 16), limit)
        return self._timing.draw(longest / 2, longest)

    def _choose_wait(self, credentials: Credentials) -> float:
        life = credentials.not_after - credentials.not_before
        part = self._timing.draw(RENEWED_AT - JITTER, RENEWED_AT + JITTER)
        return max(credentials.not_before + life * part - self._timing.now(), LONGEST_PAUSE_S)

    def _report(self, state: str, *, problem: str = "") -> None:
        current = self._current
        shown = {"certificate": state}
        if current is not None:
            shown |= {"identity": current.identity, "serial": current.serial, "ends": render_moment(current.not_after)}
        if problem:
            shown["problem"] = problem
        self._parent.report(self._collect(), shown)
        self._parent.tell_controller(render_facts(current, state))

    def _collect(self) -> list[MetricFamily]:
        families = [
            MetricFamily(
                name="maesh_certificate_renewals",
                type="counter",
                help="Certificates that the node has got.",
                samples=(((), self._renewals),),
            ),
            MetricFamily(
                name="maesh_certificate_renewal_failures",
                type="counter",
                help="Attempts to get a certificate that failed.",
                labels=("reason",),
                samples=tuple(((reason,), count) for reason, count in sorted(self._failures.items())),
            ),
        ]
        if self._current is not None:
            families.append(
                MetricFamily(
                    name="maesh_certificate_expiry_seconds",
                    type="gauge",
                    help="The Unix time at which the node's certificate ends.",
                    samples=(((), self._current.not_after),),
                )
            )
        return families


async def enrol(order: EnrolmentOrder, program: tuple[str, ...] = _PROGRAM) -> Credentials:
    """Get new credentials from an enrolment process. Raises EnrolmentError."""
    try:
        process = await start_process(
            *program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=OUTPUT_LIMIT_BYTES,
        )
    except OSError as error:
        raise EnrolmentError("process", f"the enrolment process cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(PATIENCE_S):
            output = await _exchange(process, msgspec.json.encode(order))
            status = await process.wait()
    except TimeoutError:
        raise EnrolmentError("timeout", f"the enrolment process did not end within {PATIENCE_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _parse_output(status, output)


async def _exchange(process: asyncio.subprocess.Process, order: bytes) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    process.stdin.write(order)
    process.stdin.close()
    output = b""
    while len(output) <= OUTPUT_LIMIT_BYTES and (part := await process.stdout.read(65536)):
        output += part
    if len(output) > OUTPUT_LIMIT_BYTES:
        raise EnrolmentError("process", "the enrolment process wrote too much")
    return output


def _parse_output(status: int, output: bytes) -> Credentials:
    try:
        if status == 0:
            return msgspec.json.decode(output, type=Credentials)
        failure = msgspec.json.decode(output, type=EnrolmentFailure)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise EnrolmentError("process", f"the enrolment process ended with status {status}") from None
    raise EnrolmentError(failure.reason, failure.text)
