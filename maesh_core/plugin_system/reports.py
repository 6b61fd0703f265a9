"""The interfaces of reports: documents that a plugin's half in proxies makes on demand, for its half in the controller.

A worker makes a report (`ReportingFactory`), the node's parent joins those of its workers, and `ControllerNode`
gathers those of all proxies. They are for what is too detailed for metrics. Values and interfaces only.
"""

from typing import Final, Protocol

import msgspec

REPORT_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Limit of the report of one worker, and of the joined report of a node; a larger one is an error of that proxy."""


class ReportingFactory(Protocol):
    """What a middleware's factory that makes a report has in addition."""

    report_name: str
    """Lower-case letters, digits and hyphens; unique among the factories of all plugins."""

    def build_report(self) -> bytes:
        """Return the report of this worker as JSON."""


class ProxyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The reports of one proxy's workers, or the `error` for which they are missing.

    They are untrusted. `is_complete` is false if a worker is missing.
    """

    name: str
    workers: tuple[msgspec.Raw, ...] = ()
    is_complete: bool = True
    error: str = ""
