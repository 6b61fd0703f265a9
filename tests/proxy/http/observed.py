"""What a world's traffic leaves behind: its records, and its counters, for one request as it should be counted."""

from collections import Counter

from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS
from maesh_core.model.metrics import Histogram

ENTRYPOINT = 5000


class Observed:
    """Observes a world's traffic: its records, and its counters, which must be those of one request."""

    name = "test"
    HTTP2 = "HTTP/2"

    def __init__(self, world):
        self.world, self.records = world, []
        world.handler.environment.observers.add(self)

    def observe(self, record):
        self.records.append(record)

    def read_counters(self):
        """Return the counters that are not 0 as `{(name, *labels): value}`; of a histogram, the number of values."""
        environment = self.world.handler.environment
        counters = {}
        for family in (*self.world.handler.collect_metrics(), *environment.callers.collect_metrics()):
            for labels, value in family.samples if family.type != "gauge" else ():
                counters[family.name, *labels] = sum(value.counts) if isinstance(value, Histogram) else value
        return {key: value for key, value in counters.items() if value}

    def expect_one(
        self, *, outcomes=None, is_answer=False, cut="", branch="", parsed=1, others=(), has_failed=None, **fields
    ):
        """Check the only record, and all counters. A request has failed by its status, its gRPC status, or a cut.

        `fields` are those of the record that differ from a plain GET of the service `a` that the first server answers.
        """
        (record,) = self.records
        wanted = {
            "kind": "http",
            "client": "10.0.0.9",
            "entrypoint": ENTRYPOINT,
            "protocol": "HTTP/1.1",
            "service": "a",
            "destination": fields.get("service", "a"),
            "server": "10.0.1.1:80",
            "attempts": 1,
            "status": 200,
            "grpc_status": None,
            "reason": "",
            "received_bytes": 0,
            "sent_bytes": 0,
            "upstream_s": 0.0,
            "duration_s": 0.0,
            **fields,
        }
        assert {name: getattr(record, name) for name in wanted} == wanted
        if outcomes is None:
            outcomes = {(wanted["server"], "response"): 1} if wanted["server"] else {}
        counted = self._count(wanted, outcomes, is_answer=is_answer, cut=cut, branch=branch, parsed=parsed)
        if wanted["service"]:
            counted |= self._count_failure(wanted, cut=cut, branch=branch, has_failed=has_failed)
        counted |= dict(others)
        assert self.read_counters() == {key: value for key, value in counted.items() if value}

    def _count(self, wanted, outcomes, *, is_answer, cut, branch, parsed):
        service, status = wanted["service"], wanted["status"]
        class_ = f"{status // 100}xx"
        counted = {
            ("maesh_entrypoint_requests", str(ENTRYPOINT), class_): parsed,
            ("maesh_entrypoint_request_duration_seconds", str(ENTRYPOINT)): parsed,
            **self._count_servers(wanted, outcomes, is_answer=is_answer),
        }
        if not service:
            return counted | {("maesh_http_refused_requests", str(status)): 1}
        protocol, code = "http/2" if wanted["protocol"] == self.HTTP2 else "http/1", class_
        heads = sum(count for (_, outcome), count in outcomes.items() if outcome != "failure")
        return counted | {
            ("maesh_service_requests", service, protocol, code): 1,
            ("maesh_service_request_duration_seconds", service): 1,
            ("maesh_service_upstream_duration_seconds", service): heads,
            ("maesh_service_attempts", service): wanted["attempts"],
            ("maesh_service_retries", service): max(0, wanted["attempts"] - 1),
            ("maesh_service_request_bytes", service): wanted["received_bytes"],
            ("maesh_service_response_bytes", service): wanted["sent_bytes"],
            ("maesh_service_answers", service, str(status), wanted["reason"]): int(is_answer),
            ("maesh_service_cut_responses", service, cut): int(bool(cut)),
            ("maesh_service_grpc_responses", service, str(wanted["grpc_status"])): wanted["grpc_status"] is not None,
            ("maesh_branch_requests", service, branch, code): int(bool(branch)),
            ("maesh_branch_request_duration_seconds", service, branch): int(bool(branch)),
            ("maesh_edge_requests", wanted["client"], service): 1,
            ("maesh_edge_request_duration_seconds", wanted["client"], service): 1,
            ("maesh_edge_denied", wanted["client"], service): int(is_answer and status == 403),
        }

    def _count_servers(self, wanted, outcomes, *, is_answer):
        """Count what servers have: all responses have the class of the request's status, or that of its outcome."""
        status, server, counted = wanted["status"], wanted["server"], Counter()
        for (label, outcome), count in outcomes.items():
            counted["maesh_server_attempts", label, outcome] += count
            if outcome != "failure":
                code = "5xx" if outcome == "error" else "2xx" if is_answer or status >= 499 else f"{status // 100}xx"
                counted["maesh_server_responses", label, code] += count
                counted["maesh_server_attempt_duration_seconds", label] += count
        if not is_answer and any(outcome != (server, "failure") for outcome in outcomes):
            counted["maesh_server_request_bytes", server] = wanted["received_bytes"]
            counted["maesh_server_response_bytes", server] = wanted["sent_bytes"]
        return counted

    def _count_failure(self, wanted, *, cut, branch, has_failed):
        service, status = wanted["service"], wanted["status"]
        if has_failed is None:
            has_failed = bool(status >= 500 or cut or wanted["grpc_status"] in GRPC_SERVER_ERRORS)
        is_servers = has_failed and wanted["server"] and status < 500
        return {
            ("maesh_service_failures", service): int(has_failed),
            ("maesh_branch_failures", service, branch): int(bool(has_failed and branch)),
            ("maesh_edge_failures", wanted["client"], service): int(has_failed),
            ("maesh_server_failed_responses", wanted["server"]): int(bool(is_servers)),
        }
