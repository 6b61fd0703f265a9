"""Counts the connections or sessions of stream protocols by server, and by branch and rule of services that have them.

Takes what a handler reports when a connection begins, fails or has moved bytes; returns metric families. Counters are
plain integers that become metrics only at a scrape. A branch or rule is named by the key of its service in the
configuration, as that of an HTTP service is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, final

from maesh_core.model.metrics import MetricFamily


@final
class StreamCounts:
    """The counters of one server, or of one branch or rule of one service.

    `received_bytes` come from clients and `sent_bytes` go to them. `refused` clients found no server; only rules count
    them.
    """

    __slots__ = ("failures", "opened", "received_bytes", "refused", "sent_bytes")

    def __init__(self) -> None:
        self.opened = 0
        self.failures = 0
        self.refused = 0
        self.received_bytes = 0
        self.sent_bytes = 0

    def __repr__(self) -> str:
        return f"<StreamCounts opened={self.opened} failures={self.failures}>"

    @property
    def is_used(self) -> bool:
        """Whether anything was tried."""
        return self.opened > 0 or self.failures > 0 or self.refused > 0

    def add(self, other: "StreamCounts") -> None:
        """Add what another one has counted."""
        self.opened += other.opened
        self.failures += other.failures
        self.refused += other.refused
        self.received_bytes += other.received_bytes
        self.sent_bytes += other.sent_bytes


class CountedNames(NamedTuple):
    """The names of a protocol's metrics: `maesh_PROTOCOL_server_OPENED` and so on."""

    protocol: str
    opened: str
    failed: str


_Counted = Sequence[tuple[tuple[str, ...], StreamCounts]]


def collect_servers(names: CountedNames, servers: Iterable[tuple[str, StreamCounts]]) -> Sequence[MetricFamily]:
    """Build the metrics of servers, which are given by their labels; servers with the same label are added up."""
    sums: dict[str, StreamCounts] = {}
    for label, counts in servers:
        sums.setdefault(label, StreamCounts()).add(counts)
    counted: _Counted = [((label,), counts) for label, counts in sorted(sums.items()) if counts.is_used]
    return _collect(names, "server", ("server",), counted)


def collect_aside(names: CountedNames, servers: Iterable[str]) -> MetricFamily:
    """Build the metric of servers that are set aside, which are given by their labels."""
    return MetricFamily(
        name=f"maesh_{names.protocol}_server_aside",
        type="gauge",
        help="Servers set aside after failures: the number of workers that detected them.",
        labels=("server",),
        samples=[((label,), 1.0) for label in sorted(set(servers))],
    )


def collect_branches(names: CountedNames, branches: Mapping[str, Mapping[str, StreamCounts]]) -> Sequence[MetricFamily]:
    """Build the metrics of branches, which are given by the keys of their service port and of themselves."""
    return _collect(names, "branch", ("service", "destination"), _list_parts(branches))


def collect_rules(names: CountedNames, rules: Mapping[str, Mapping[str, StreamCounts]]) -> Sequence[MetricFamily]:
    """Build the metrics of rules, which are given by the keys of their service port and of themselves."""
    counted, labels = _list_parts(rules), ("service", "rule")
    refused = MetricFamily(
        name=f"maesh_{names.protocol}_rule_refused_{names.opened}",
        type="counter",
        help=f"{names.protocol.upper()} {names.opened} for which there was no server, by rule.",
        labels=labels,
        samples=[(values, float(counts.refused)) for values, counts in counted],
    )
    return [*_collect(names, "rule", labels, counted), refused]


def _list_parts(parts: Mapping[str, Mapping[str, StreamCounts]]) -> _Counted:
    return [
        ((service, part), counts)
        for service, found in sorted(parts.items())
        for part, counts in sorted(found.items())
        if counts.is_used
    ]


def _collect(names: CountedNames, part: str, labels: tuple[str, ...], counted: _Counted) -> Sequence[MetricFamily]:
    shown = names.protocol.upper()
    return [
        MetricFamily(
            name=f"maesh_{names.protocol}_{part}_{noun}",
            type="counter",
            help=f"{text}, by {part}.",
            labels=labels,
            samples=[(values, float(getattr(counts, attribute))) for values, counts in counted],
        )
        for noun, attribute, text in (
            (names.opened, "opened", f"{shown} {names.opened} that began"),
            (names.failed, "failures", f"{shown} {names.failed.replace('_', ' ')}"),
            ("received_bytes", "received_bytes", "Bytes received from clients"),
            ("sent_bytes", "sent_bytes", "Bytes received from servers"),
        )
    ]
