"""The reports about denials: what a worker of a proxy reports, and what the controller makes of all of them.

Both halves and the commands import this module. Values only. What proxies report is untrusted.
"""

from typing import Final, Literal

import msgspec

REPORT_NAME: Final = "denials"
REPORT_PATH: Final = "/api/acl/denials"
TARGETS_LIMIT: Final = 8
"""TrafficTargets that a denial names."""
Mode = Literal["enforce", "audit"]
Reason = Literal["client", "request", "path"]
"""No rule allows the client; rules allow it, but not this request; or its path is ambiguous."""

REASONS: Final[dict[str, str]] = {
    "client": "no rule allows this client",
    "request": "no rule allows this request of the client",
    "path": "the path is ambiguous",
}


class DenialKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """What equal denials have in common.

    `service` is the key of the called service port, and `route` that of its branch, rule or side service, if it was one
    of these. `destinations` are the services whose pods the client may not reach, as `name@namespace`.
    `traffic_targets` are those in audit mode by which it passed, or else those that allow the client other requests.
    `path` is without query; with `is_path_cut` it is only the beginning of other paths, which may be empty.
    """

    mode: Mode
    service: str
    destinations: tuple[str, ...]
    client: str
    traffic_type: str
    reason: Reason
    route: str = ""
    method: str = ""
    path: str = ""
    is_path_cut: bool = msgspec.field(default=False, name="pathCut")
    traffic_targets: tuple[str, ...] = ()


class CountedDenial(msgspec.Struct, frozen=True, kw_only=True):
    """Equal denials, and when the first and the last of them were, as Unix times."""

    key: DenialKey
    count: int
    first: float
    last: float


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker has recorded since a Unix time. `forgotten` counts evicted entries."""

    since: float
    forgotten: int
    denials: tuple[CountedDenial, ...]


class ClientAccount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The service account of a client's pods."""

    namespace: str
    service_account: str


class Denial(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Denials of one account, or of one address that identifies none, in the report of the controller.

    `address` is the one that was seen last. Times are RFC 3339. The other fields are those of a DenialKey.
    """

    mode: Mode
    service: str
    destinations: tuple[str, ...]
    client: ClientAccount | None
    address: str
    traffic_type: str
    method: str
    path: str
    is_path_cut: bool = msgspec.field(name="pathCut")
    route: str
    reason: Reason
    traffic_targets: tuple[str, ...] = ()
    count: int
    first: str
    last: str


class ReportingNode(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy that was asked: since when its workers record, or why its report is missing."""

    name: str
    since: str = ""
    error: str = ""


class DenialReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The content of `/api/acl/denials`.

    All proxies have recorded since `since`; it is empty if none has answered. The report also has what workers had
    reported that have ended or did not answer; the first of them recorded since `kept_since`, which is empty if there
    are none. It is not `complete` if a proxy did not answer, a controller did not name its proxies, or entries were
    left out or forgotten.
    """

    since: str
    kept_since: str = ""
    complete: bool
    denials: tuple[Denial, ...]
    nodes: tuple[ReportingNode, ...] = ()
