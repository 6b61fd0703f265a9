"""Queries to Prometheus, and sums of what it answers."""

import asyncio
import math
import re
from pathlib import Path

import pytest

from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.latency import BOUNDS_S
from maesh_core.controller.traffic.prometheus import (
    UPTIME_QUERY,
    WINDOW_S,
    PrometheusSource,
    build_family,
    build_queries,
)
from maesh_core.controller.traffic.report import ReportBuilder, build_scope
from maesh_core.errors import TrafficUnavailableError
from maesh_core.model.metrics import Histogram
from maesh_core.model.topology import ServerNode

from .measured import DB, SERVICES, WEB, build_service, build_snapshot, build_split, work_at_once
from .test_proxies import Finder

SCOPE = work_at_once(build_scope(SERVICES))
CONNECTIONS = "sum by (side) (maesh_http_connections)"
DOCS = Path(__file__).resolve().parents[3] / "docs"


class Client:
    """Answers queries from a dict, and the others with nothing; or raises, or waits."""

    def __init__(self, **answers):
        self.answers = {CONNECTIONS: [({"side": "client"}, 7.0)]}
        self.asked = []
        self.error = None
        self.unavailable = frozenset()
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most = 0
        self.is_closed = False

    async def query(self, text):
        self.asked.append(text)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            if text in self.unavailable:
                raise TrafficUnavailableError("its answer is too large")
        finally:
            self.running -= 1
        return self.answers.get(text, [])

    async def close(self):
        self.is_closed = True


@pytest.fixture
def client():
    return Client()


async def measure(client, **limits):
    source = PrometheusSource(client, Finder("node-1"), **limits)
    measured = await source.measure(SCOPE)
    services = work_at_once(ReportBuilder(measured.sums, build_snapshot()).build_services(SERVICES))
    return measured, next(each for each in services if each.key == WEB)


async def test_counters_are_totals_and_their_growth_is_the_last_window(client):
    total = "sum by (service, code) (maesh_service_requests_total)"
    growth = "sum by (service, code) (increase(maesh_service_requests_total[120s]))"
    failures = "sum by (service) (maesh_service_failures_total)"
    labels = [{"service": WEB, "code": code} for code in ("2xx", "5xx")]
    client.answers |= {
        total: list(zip(labels, (900.0, 100.0), strict=True)),
        growth: list(zip(labels, (59.6, 0.4), strict=True)),
        failures: [({"service": WEB}, 150.0)],
        UPTIME_QUERY: [({}, 500.0)],
    }
    measured, web = await measure(client)
    assert (web.total.codes, web.total.success, web.total.rate) == ({"2xx": 900, "5xx": 100}, 0.85, 2.0)
    assert (web.last.codes, web.last.seconds, web.last.rate) == ({"2xx": 60}, WINDOW_S, 0.5)
    assert [(node.name, node.revision, node.error) for node in measured.nodes] == [("node-1", "e.1", "")]


async def test_buckets_become_percentiles(client):
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    rows = [({"service": WEB, "le": bound}, 0.0 if index < 7 else 10.0) for index, bound in enumerate(bounds)]
    client.answers |= {
        "sum by (service, le) (maesh_service_request_duration_seconds_bucket)": rows,
        "sum by (service, code) (maesh_service_requests_total)": [({"service": WEB, "code": "2xx"}, 10.0)],
    }
    _, web = await measure(client)
    assert web.total.total.p50 == pytest.approx(0.075)


async def test_servers_and_callers_have_percentiles_although_their_empty_buckets_are_left_out(client):
    rows = [("0.1", 4.0), ("0.3", 10.0), ("1.2", 10.0), ("5.0", 10.0), ("+Inf", 10.0)]
    edges, servers = ({"service": WEB, "client": "10.9.0.1"}, {"server": "10.0.0.1:8080"})
    client.answers |= {
        "sum by (service, client) (maesh_edge_requests_total)": [(edges, 10.0)],
        "sum by (service, client, le) (maesh_edge_request_duration_seconds_bucket) > 0": [
            ({**edges, "le": bound}, value) for bound, value in rows
        ],
        "sum by (server, le) (maesh_server_attempt_duration_seconds_bucket) > 0": [
            ({**servers, "le": bound}, value) for bound, value in rows
        ],
    }
    _, web = await measure(client)
    (caller,), (server,) = web.callers, web.servers
    assert caller.total.total.p50 == server.total.upstream.p50 == pytest.approx(0.1 + 0.2 / 6)


async def test_servers_and_branches_of_tcp_are_asked_for_by_their_labels(client):
    server, branch = {"server": "10.0.0.1:8080"}, {"service": DB, "destination": f"{DB}/split/canary/db-v2"}
    client.answers |= {
        "sum by (server) (maesh_tcp_server_connections_total)": [(server, 10.0)],
        "sum by (server) (increase(maesh_tcp_server_connections_total[120s]))": [(server, 6.0)],
        "sum by (server) (maesh_tcp_server_aside)": [(server, 1.0)],
        "sum by (service, destination) (maesh_tcp_branch_connections_total)": [(branch, 4.0)],
    }
    node = ServerNode(address="10.0.0.1", port=8080)
    services = [build_service("db", 5432, node, type_="tcp", branches=(build_split(("db-v2", 1)),))]
    measured = await PrometheusSource(client, Finder("node-1")).measure(work_at_once(build_scope(services)))
    (db,) = work_at_once(ReportBuilder(measured.sums, build_snapshot()).build_services(services))
    (found,) = db.servers
    assert (found.total.connections, found.last.connections, found.is_set_aside) == (10, 6, True)
    assert [each.total.connections for each in db.branches] == [0, 4]


async def test_durations_of_servers_and_callers_are_missing_if_prometheus_cannot_answer_for_them(client):
    optional = {query.text for query in build_queries() if query.is_optional}
    client.answers["sum by (service, code) (maesh_service_requests_total)"] = [({"service": WEB, "code": "2xx"}, 9.0)]
    client.unavailable = optional
    _, web = await measure(client)
    assert (web.total.requests, web.servers[0].total.upstream.p50) == (9, None)
    assert client.asked[-len(optional) - 1 : -1] == [query.text for query in build_queries() if query.is_optional]


async def test_all_queries_are_sent_a_few_at_a_time(client):
    await measure(client)
    assert sorted(client.asked) == sorted([*(query.text for query in build_queries()), UPTIME_QUERY])
    assert client.most == 4


async def test_a_prometheus_that_scrapes_no_proxy_is_an_error(client):
    client.answers.clear()
    with pytest.raises(TrafficUnavailableError, match="has no metrics of a proxy; it must scrape them"):
        await measure(client)


async def test_the_first_error_ends_all_queries(client):
    client.error = TrafficUnavailableError("broken")
    with pytest.raises(TrafficUnavailableError, match="broken"):
        await measure(client)
    assert client.running == 0
    assert len(client.asked) <= 8


async def test_all_queries_together_have_a_deadline(client):
    client.gate.clear()
    with pytest.raises(TrafficUnavailableError, match=r"did not answer all queries within 0\.05 s"):
        await measure(client, deadline_s=0.05)
    assert client.running == 0


async def test_closing_closes_the_connections(client):
    await PrometheusSource(client, Finder()).close()
    assert client.is_closed


@pytest.mark.parametrize(
    "rows",
    [
        [({}, 1.0)],
        [({"service": WEB, "code": "x"}, 1.0)],
        [({"service": "a/b:1", "code": "2xx"}, 1.0)],
        [({"service": WEB, "code": "2xx"}, value) for value in (math.nan, math.inf, -1.0, 1e300)],
    ],
)
async def test_invalid_rows_do_not_count(client, rows):
    client.answers["sum by (service, code) (maesh_service_requests_total)"] = rows
    _, web = await measure(client)
    assert web.total.requests == 0


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ({"0.1": 1.4, "0.3": 3.0, "+Inf": 2.9}, ([0.1, 0.3], [1, 2, 0])),
        ({"+Inf": 2.0, "0.1": 1.0}, ([0.1], [1, 1])),
        ({"0.1": 1.0}, None),
        ({"x": 1.0, "NaN": 1.0, "+Inf": math.nan}, None),
    ],
)
def test_cumulative_buckets_become_counts(buckets, expected):
    query = next(each for each in build_queries() if each.metric == metrics.DURATIONS)
    rows = [({"service": WEB, "le": bound}, value) for bound, value in buckets.items()]
    histograms = [value for _, value in work_at_once(build_family(query, rows)).samples]
    found = [(each.bounds, each.counts) for each in histograms if isinstance(each, Histogram)]
    assert found == ([expected] if expected else [])


def test_the_docs_have_the_queries():
    text = (DOCS / "controller-api.md").read_text()
    shown = set(re.findall(r"^    ((?:sum|max).*)$", text, re.MULTILINE))
    assert shown
    assert shown <= {UPTIME_QUERY, *(query.text for query in build_queries())}
