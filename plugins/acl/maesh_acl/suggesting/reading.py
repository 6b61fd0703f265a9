"""Reads observations: from the report of `/api/acl/denials`, and from an access log in JSON.

Takes bytes that may come from anywhere, and returns observations and the number of lines that are none. Raises
ConfigurationError if nothing in them is usable, or if they are more than is read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from maesh_acl.denials.report import DenialReport
from maesh_acl.suggesting.observation import Observation
from maesh_core.plugin import ConfigurationError, ObjectKey

OBSERVATION_LIMIT: Final = 200_000
"""Different observations that are kept; a log with more is refused, because a part of it would yield too few rules."""
LINE_LIMIT_BYTES: Final = 65536
"""A longer line is none of the access log, whose lines have at most 4096 bytes besides headers."""
CUT_LENGTHS: Final = (64, 1024)
"""The lengths at which an access log cuts texts."""
_CUT_SIGN: Final = "..."
_HTTP_KINDS: Final = ("http", "tunnel")
_STREAM_KINDS: Final = ("tcp", "udp")
_DENIED: Final = "access denied"
_DENIED_STATUS: Final = 403
_DEPLOYED = re.compile(r"(.+)-[a-z0-9]{1,10}-[a-z0-9]{5}").fullmatch
"""The name of a pod of a Deployment, with that of the Deployment."""
_WORKLOADS = (_DEPLOYED, re.compile(r"(.+)-[a-z0-9]{5}").fullmatch, re.compile(r"(.+)-[0-9]+").fullmatch)
"""Names of pods with that of their Deployment, DaemonSet (or Job), and StatefulSet."""


class _Record(msgspec.Struct, kw_only=True):
    """The fields of a line of the access log that are read; times are texts in RFC 3339."""

    StartUTC: str = ""
    ClientHost: str = ""
    ClientPod: str = ""
    RequestPath: str = ""
    RouterName: str = ""
    ServiceName: str = ""
    Kind: str = ""
    RequestMethod: str = ""
    DownstreamStatus: int = 0
    Reason: str = ""


class Visit(NamedTuple):
    """What equal lines of an access log have in common; the client is a pod, `namespace/name`, or an address."""

    pod: str
    address: str
    service: str
    destination: str
    traffic_type: str
    method: str
    path: str
    is_cut: bool


class Seen(NamedTuple):
    """How often something was seen, and when first and last."""

    number: int
    first: str
    last: str


class AccessLog(NamedTuple):
    """The visits of an access log, the number of lines that are no records, and of those that were denied."""

    visits: Mapping[Visit, Seen]
    ignored: int
    denied: int


def read_report(report: DenialReport, *, with_denied: bool) -> Iterator[Observation]:
    """Read the report: denials that audit mode let pass, and with `with_denied` those that were answered with 403."""
    for each in report.denials:
        if each.mode == "audit" or with_denied:
            client = each.client
            yield Observation(
                service=each.service,
                client=ObjectKey(client.namespace, client.service_account) if client is not None else None,
                traffic_type=each.traffic_type,
                destination=each.route,
                leaves=each.destinations,
                method=each.method,
                path=each.path,
                is_cut=each.is_path_cut,
                count=each.count,
                first=each.first,
                last=each.last,
                address=each.address,
            )


def is_report(content: bytes) -> bool:
    """Whether a file is a report, and not an access log: one JSON object with `denials`."""
    head = content[:LINE_LIMIT_BYTES].lstrip()
    return head.startswith(b"{") and b'"denials"' in head and b'"StartUTC"' not in head


def parse_report(content: bytes) -> DenialReport:
    """Parse a report. Raises ConfigurationError."""
    try:
        return msgspec.json.decode(content, type=DenialReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"it is not a report of denials: {error}") from error


class AccessLogReader:
    """Collects the visits of an access log, line by line."""

    def __init__(self, *, with_denied: bool) -> None:
        self._with_denied = with_denied
        self._visits: dict[Visit, Seen] = {}
        self._decoder = msgspec.json.Decoder(_Record)
        self.ignored = 0
        """Lines that are no records."""
        self.denied = 0
        """Records of denied requests, which were left out."""

    def __repr__(self) -> str:
        return f"<AccessLogReader {len(self._visits)} visits>"

    def read_lines(self, lines: Iterable[bytes]) -> None:
        """Read lines. Raises ConfigurationError at the limit."""
        for line in lines:
            if not line.strip():
                continue
            try:
                record = self._decoder.decode(line) if len(line) <= LINE_LIMIT_BYTES else None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                record = None
            if record is None:
                self.ignored += 1
            elif record.RouterName:
                self._add(record)

    def is_record(self, line: bytes) -> bool:
        """Whether a line is a record of an access log."""
        try:
            return bool(self._decoder.decode(line).StartUTC)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False

    def build(self) -> AccessLog:
        """Return the visits."""
        return AccessLog(self._visits, self.ignored, self.denied)

    def _add(self, record: _Record) -> None:
        """Add the record of something that was routed."""
        if record.Kind not in (*_HTTP_KINDS, *_STREAM_KINDS):
            return
        if _is_denied(record) and not self._with_denied:
            self.denied += 1
            return
        visit = _build_visit(record)
        known = self._visits.get(visit)
        if known is None:
            if len(self._visits) >= OBSERVATION_LIMIT:
                raise ConfigurationError(
                    f"the log has more than {OBSERVATION_LIMIT} different requests; read shorter parts of it"
                )
            self._visits[visit] = Seen(1, record.StartUTC, record.StartUTC)
        else:
            times = (known.first, known.last, record.StartUTC)
            self._visits[visit] = Seen(known.number + 1, min(times), max(times))


def build_observations(log: AccessLog, accounts: Mapping[str, ObjectKey]) -> Iterator[Observation]:
    """Build observations from visits; `accounts` are those of pods, by `namespace/name`."""
    for visit, seen in log.visits.items():
        yield Observation(
            service=visit.service,
            client=accounts.get(visit.pod),
            traffic_type=visit.traffic_type,
            destination=visit.destination,
            is_part=True,
            method=visit.method,
            path=visit.path,
            is_cut=visit.is_cut,
            count=seen.number,
            first=seen.first,
            last=seen.last,
            address=f"pod {visit.pod}" if visit.pod else visit.address,
        )


def find_accounts(pods: Iterable[str], known: Mapping[str, ObjectKey]) -> Mapping[str, ObjectKey]:
    """Find the accounts of pods, `namespace/name`, of which some have ended, among those of known pods.

    Pods of one Deployment share an account, so a pod that has ended gets the account of another one of its Deployment.
    If these have several accounts, the account has changed, and none is returned. Manifests have workloads instead of
    pods: each pod gets the account of its workload.
    """
    by_deployment: dict[str, set[ObjectKey]] = {}
    for name, account in known.items():
        if (match := _DEPLOYED(name)) is not None:
            by_deployment.setdefault(match[1], set()).add(account)
    found: dict[str, ObjectKey] = {}
    for pod in pods:
        if pod in known:
            found[pod] = known[pod]
        elif (match := _DEPLOYED(pod)) is not None and match[1] in by_deployment:
            if len(by_deployment[match[1]]) == 1:
                (found[pod],) = by_deployment[match[1]]
        else:
            workloads = (match[1] for fits in _WORKLOADS if (match := fits(pod)) is not None)
            if (workload := next((each for each in workloads if each in known), None)) is not None:
                found[pod] = known[workload]
    return found


def list_pods(log: AccessLog) -> Sequence[str]:
    """List the pods of the visits, `namespace/name`."""
    return sorted({visit.pod for visit in log.visits if visit.pod})


def _is_denied(record: _Record) -> bool:
    return record.Reason.startswith(_DENIED) and record.DownstreamStatus in (0, _DENIED_STATUS)


def _build_visit(record: _Record) -> Visit:
    is_http = record.Kind in _HTTP_KINDS
    path, is_cut = _read_path(record.RequestPath) if is_http else ("", False)
    return Visit(
        pod=record.ClientPod,
        address="" if record.ClientPod else record.ClientHost,
        service=record.RouterName,
        destination="" if record.ServiceName == record.RouterName else record.ServiceName,
        traffic_type="http" if is_http else record.Kind,
        method=record.RequestMethod if is_http else "",
        path=path,
        is_cut=is_cut,
    )


def _read_path(target: str) -> tuple[str, bool]:
    """Cut the query off; a target that is cut before its query is only the beginning of the path."""
    path, question_mark, _ = target.partition("?")
    if not question_mark and path.endswith(_CUT_SIGN) and len(path) - len(_CUT_SIGN) in CUT_LENGTHS:
        return path.removesuffix(_CUT_SIGN), True
    return path, False
