"""What can go wrong between a client and its API server, on demand of a test.

A fault names the calls that it befalls and how often; a request meets the first that fits. Pure: others act on it.
"""

import enum
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase

from maesh_testing.kubernetes.access import Call


class FaultKind(enum.Enum):
    """What happens."""

    DELAY = "the answer comes after delay_s"
    HANG = "the request is taken, nothing is done, and no answer comes"
    HANG_MID_ANSWER = "half of the answer comes and no more"
    CLOSE_BEFORE = "the connection breaks before anything is done"
    CLOSE_AFTER = "what was asked for is done, and the connection breaks before the answer"
    STATUS = "a Status of this code, reason and message; nothing is done"
    GARBAGE = "status 200, and a body that is no JSON, or `body`"
    CUT_JSON = "a whole answer whose JSON ends in the middle"
    WRONG_LENGTH = "an answer that announces more than it brings, and ends"
    CONFLICT = "somebody else changes the object right before"
    WATCH_END = "a watch ends as if its time were over, after so many events"
    WATCH_CUT = "a watch breaks in the middle of a line, after so many events"
    WATCH_HANG = "a watch says nothing more and does not end, after so many events"
    WATCH_GARBAGE = "a watch sends a line that is no JSON, or `body`, after so many events, and goes on"
    WATCH_EXPIRED = "a watch sends an ERROR with code 410 after so many events, and ends"


@dataclass(kw_only=True)
class Fault:
    """A fault. Of verb, resource, namespace and name `*` means any, and patterns are as in shells.

    The resource is `pods`, or `pods/status`; of a document it is the path. The first `skip` calls that fit are spared;
    `count` None: every one after them. `hits` says how many it has befallen. A client such as aiohttp's sends what is
    idempotent again when a connection breaks: break two for it to notice.
    """

    kind: FaultKind
    verb: str = "*"
    resource: str = "*"
    namespace: str = "*"
    name: str = "*"
    skip: int = 0
    count: int | None = 1
    delay_s: float = 0.0
    status: int = 500
    reason: str = "InternalError"
    message: str = "an error that a test asked for"
    retry_after_s: int | None = None
    after_events: int = 0
    body: bytes = b"<html>\x00\xff{"
    hits: int = 0

    def fits(self, call: Call) -> bool:
        """Say whether it is about this call."""
        resource = f"{call.resource}/{call.subresource}" if call.subresource else call.resource
        return all(
            fnmatchcase(found, pattern)
            for found, pattern in (
                (call.verb, self.verb),
                (resource, self.resource),
                (call.namespace, self.namespace),
                (call.name, self.name),
            )
        )


class Faults:
    """The faults of one server. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def __repr__(self) -> str:
        return f"<Faults {self._faults}>"

    def add(self, fault: Fault) -> None:
        """Let it happen from now on."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    def take(self, call: Call) -> Fault | None:
        """Return the fault that befalls a call, and count it."""
        with self._lock:
            for fault in self._faults:
                if not fault.fits(call) or (fault.count is not None and fault.hits >= fault.count):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.hits += 1
                return fault
        return None
