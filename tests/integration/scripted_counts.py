"""What a script expects a proxy to have counted and logged: its own counts of the same requests.

Keeps the samples that a proxy's metrics must have, as `{(name, labels): value}`, the records that an access log must
have, as `{fields: number}`, and the bounds of each duration.
"""

import json
import re
import time
from collections import Counter, defaultdict
from typing import NamedTuple

from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS

from .scripted_durations import Span
from .scripted_servers import find_delay_s

CLIENT_LEFT_STATUS = 499
BUSY = 503
INTERNAL, UNAVAILABLE = 13, 14
SAMPLE = re.compile(r"^(maesh_\w+?)(?:_total)?(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
COUNTED = re.compile(
    r"maesh_(edge|entrypoint|http_refused_requests|branch|rule|server_(?!aside)|udp|tcp|access_log|acl)"
    r"|maesh_service_(?!servers_aside|server_ejections)"
)
SUMS = re.compile(r"_(bucket|sum)$")
REASONS = {"client": "no rule allows this client"}
FIELDS = (
    *("Kind", "ClientHost", "RequestPath", "RequestHost", "entryPointName", "RouterName", "ServiceName", "ServiceAddr"),
    *("RequestProtocol", "RequestMethod", "Attempts", "RetryAttempts", "DownstreamStatus", "GrpcStatus", "Reason"),
    *("RequestContentSize", "DownstreamContentSize", "OriginDuration", "WouldDeny"),
)
"""All fields of a line of JSON except for times; of `OriginDuration`, whether there is one."""


def read_counters(text):
    """Read the counters that a script counts from a page of metrics, without those that are 0."""
    counters = {}
    for name, labels, value in SAMPLE.findall(text):
        if COUNTED.match(name) and not SUMS.search(name) and float(value):
            counters[name, frozenset(LABEL.findall(labels))] = float(value)
    return counters


def read_record(line):
    """Read a line of an access log as JSON."""
    fields = {"WouldDeny": "", **json.loads(line)}
    fields["OriginDuration"] = fields["OriginDuration"] is not None
    return tuple(fields[name] for name in FIELDS)


def compare(found, wanted):
    """Describe the differences of two sets of counts."""
    return [
        f"{key}: {found.get(key, 0)}, not {wanted.get(key, 0)}"
        for key in found.keys() | wanted.keys()
        if found.get(key) != wanted.get(key)
    ]


class Request(NamedTuple):
    """A request. `outcomes` are those of the attempts; None for one attempt, or none if the mesh answers.

    `branch` is the branch of the service's traffic that is chosen, and `rule` the rule of its routes. `denied` is the
    kind of the denial (`client`, `request` or `path`) if access control denies it, `would_deny` if it only records that
    it would.
    """

    path: str
    service: str = "app"
    method: str = "GET"
    body: bytes = b""
    outcomes: tuple[str, ...] | None = None
    server: str = ""
    branch: str = ""
    rule: str = ""
    denied: str = ""
    would_deny: str = ""

    def render(self, *fields):
        lines = (f"{self.method} {self.path} HTTP/1.1", f"Host: {self.service}.test.maesh", *fields)
        length = (f"Content-Length: {len(self.body)}",) if self.body else ()
        return "\r\n".join((*lines, *length, "", "")).encode() + self.body


class ExpectedCounts:
    """The counts and records of all requests so far. `is_logged` means that the mesh has an access log."""

    def __init__(self, port, server_label, *, is_logged=True):
        self.port, self.server_label, self.is_logged = port, server_label, is_logged
        self.counters, self.records = Counter(), Counter()
        self.spans = defaultdict(list)
        """The bounds of each duration that a histogram has counted, by its name and labels."""
        self._began = 0.0

    def count(self, name, value=1, /, **labels):
        if value:
            self.counters[f"maesh_{name}", frozenset(labels.items())] += value

    def time(self, name, span, number=1, /, **labels):
        """Note how long something took that a histogram counts, so many times."""
        self.count(f"{name}_count", number, **labels)
        if number:
            self.spans[f"maesh_{name}", frozenset(labels.items())] += [span] * number

    def record(self, **fields):
        """Note a record; fields that are not given are those of a refusal of HTTP/1.1 from 127.0.0.1."""
        texts = dict.fromkeys(FIELDS[:11], "")
        numbers = dict.fromkeys(FIELDS[11:], 0)
        texts |= {"Kind": "refused", "ClientHost": "127.0.0.1", "entryPointName": str(self.port)}
        texts |= {"RequestProtocol": "HTTP/1.1"}
        others = {"GrpcStatus": None, "Reason": "", "OriginDuration": False, "WouldDeny": ""}
        record = {**texts, **numbers, **others}
        record |= fields
        record["Attempts"], record["RetryAttempts"] = fields.get("Attempts", 0), max(0, fields.get("Attempts", 0) - 1)
        if self.is_logged:
            self.records[tuple(record[name] for name in FIELDS)] += 1
            self.count("access_log_written")

    def note(self, request, status, *, client="127.0.0.1", protocol="HTTP/1.1", received=0, sent=0, **more):
        """Count one request; `reason` is that of an answer of the mesh, `cut` that of a response that was cut."""
        reason, cut, grpc = more.get("reason", ""), more.get("cut", ""), more.get("grpc")
        outcomes = request.outcomes
        if outcomes is None:
            outcomes = () if reason else ("error" if status >= 500 else "response",)
        attempts = more.get("attempts", len(outcomes))
        service = f"test/{request.service}:80"
        server = (request.server or self.server_label) if attempts else ""
        has_failed = bool(status >= 500 or cut or grpc in GRPC_SERVER_ERRORS)
        total, upstream = self._measure(request, status, reason)
        self.count("entrypoint_requests", entrypoint=str(self.port), code=str(status))
        self.time("entrypoint_request_duration_seconds", total, entrypoint=str(self.port))
        self.count("service_attempts", attempts, service=service)
        self.count("service_retries", max(0, attempts - 1), service=service)
        self.count("service_request_bytes", received, service=service)
        self.count("service_response_bytes", sent, service=service)
        self._count_outcome(service, status, protocol, reason=reason, cut=cut, grpc=grpc, has_failed=has_failed)
        self.time("service_request_duration_seconds", total, service=service)
        heads = sum(each != "failure" for each in outcomes)
        self.time("service_upstream_duration_seconds", upstream, heads, service=service)
        self._count_server(server, outcomes, status, upstream, has_failed=has_failed)
        if heads and not reason:
            self.count("server_request_bytes", received, server=server)
            self.count("server_response_bytes", sent, server=server)
        self._count_client(request, status, client, total, has_failed=has_failed)
        self._count_targets(request, status, total, has_failed=has_failed)
        self.record(
            Kind="tunnel" if status == 101 else "http",
            ClientHost=client,
            RequestPath=request.path,
            RequestHost=f"{request.service}.test.maesh",
            RouterName=service,
            ServiceName=f"{service}/{request.branch}" if request.branch else service,
            ServiceAddr=server,
            RequestProtocol=protocol,
            RequestMethod=request.method,
            Attempts=attempts,
            DownstreamStatus=status,
            GrpcStatus=grpc,
            Reason=reason or cut or more.get("ended", ""),
            RequestContentSize=received,
            DownstreamContentSize=sent,
            OriginDuration=bool(outcomes) and outcomes[-1] != "failure",
            WouldDeny=REASONS.get(request.would_deny, ""),
        )

    def _count_outcome(self, service, status, protocol, *, reason, cut, grpc, has_failed):
        """Count at its service how the request ended."""
        label = "http/2" if protocol == "HTTP/2" else "http/1"
        self.count("service_requests", protocol=label, code=str(status), service=service)
        self.count("service_answers", int(bool(reason)), code=str(status), reason=reason, service=service)
        self.count("service_cut_responses", int(bool(cut)), reason=cut, service=service)
        self.count("service_grpc_responses", int(grpc is not None), grpc_status=str(grpc), service=service)
        self.count("service_failures", int(has_failed), service=service)

    def _measure(self, request, status, reason):
        """Return the bounds of the durations of the whole request and of its last attempt."""
        least_s = 0.0 if reason else find_delay_s(request.path)
        # The proxy notices later than this script that a client has left, and so the end of a tunnel.
        ended = None if status in (101, CLIENT_LEFT_STATUS) else time.monotonic()
        return Span(least_s, self._began, ended), Span(least_s, self._began, time.monotonic())

    def _count_server(self, server, outcomes, status, upstream, *, has_failed):
        """Count the attempts at a server, and the responses by their statuses."""
        for outcome in outcomes:
            self.count("server_attempts", server=server, outcome=outcome)
            self.time("server_attempt_duration_seconds", upstream, int(outcome != "failure"), server=server)
        for code in self._list_codes(outcomes, status):
            self.count("server_responses", server=server, code=str(code))
        self.count("server_failed_responses", int(has_failed and status < 500), server=server)

    def _count_client(self, request, status, client, total, *, has_failed):
        """Count what a client has asked of the service, and what access control decided."""
        key = {"service": f"test/{request.service}:80"}
        assert bool(request.denied) == (status == 403), f"{request}: {status}"
        self.count("edge_requests", client=client, **key)
        self.count("edge_denied", int(bool(request.denied)), client=client, **key)
        self.count("edge_failures", int(has_failed), client=client, **key)
        self.time("edge_request_duration_seconds", total, client=client, **key)
        self.count("acl_denied", int(bool(request.denied)), reason=request.denied, **key)
        self.count("acl_would_deny", int(bool(request.would_deny)), reason=request.would_deny, **key)

    def _count_targets(self, request, status, total, *, has_failed):
        """Count the request at the rule and the branch that were chosen for it."""
        service = f"test/{request.service}:80"
        if request.rule:
            key = {"service": service, "rule": f"{service}/{request.rule}"}
            self.count("rule_requests", code=str(status), **key)
            self.count("rule_failures", int(has_failed), **key)
            self.time("rule_request_duration_seconds", total, **key)
        if request.branch:
            key = {"service": service, "destination": f"{service}/{request.branch}"}
            self.count("branch_requests", code=str(status), **key)
            self.count("branch_failures", int(has_failed), **key)
            self.time("branch_request_duration_seconds", total, **key)

    @staticmethod
    def _list_codes(outcomes, status):
        """List the statuses of servers: the last one is the request's, unless its client left; others are busy."""
        codes = [BUSY for outcome in outcomes[:-1] if outcome != "failure"]
        if outcomes and outcomes[-1] != "failure":
            codes.append(200 if status == CLIENT_LEFT_STATUS else status)
        return codes
