"""Reports of plugins from many proxies, some of which do not answer."""

import asyncio

import msgspec
import pytest

from maesh_core.controller.mesh_proxies import plugin_reports as module
from maesh_core.controller.mesh_proxies.finder import NOT_PULLING, KnownProxies
from maesh_core.controller.mesh_proxies.plugin_reports import CONCURRENCY, NO_REPORT, NO_TIME, NOT_ASKED, ReportGatherer
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport
from maesh_core.model.traffic import MissingController
from maesh_core.plugin_system.reports import REPORT_LIMIT_BYTES


class Finder:
    """Proxies by name; those in `silent` have not pulled for long."""

    def __init__(self, *names, silent=(), missing=()):
        self.names, self.silent = names, silent
        self.missing = tuple(MissingController(name=name, error="gone") for name in missing)

    async def find(self):
        proxies = tuple(
            NodeReport(
                name=name, ip="10.0.0.1", ready=name not in self.silent, revision="e.1", last_seen="", admin_port=8080
            )
            for name in self.names
        )
        return KnownProxies(proxies, self.missing)


class Fetcher:
    """Answers by name; an exception is raised, and None is an answer that never comes."""

    def __init__(self, answers=None):
        self.answers = answers or {}
        self.asked = []
        self.under_way = self.most = 0

    async def fetch_report(self, proxy, name, *, limit_bytes):
        assert limit_bytes == REPORT_LIMIT_BYTES
        self.asked.append((proxy.name, name))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        try:
            answer = self.answers.get(proxy.name, b'{"workers":[{"a":1}],"missing":0}')
            if isinstance(answer, Exception):
                raise answer
            return answer if answer is not None else await asyncio.Event().wait()
        finally:
            self.under_way -= 1


async def gather(finder, fetcher, **options):
    found = {}

    def add(report):
        assert report.name not in found
        found[report.name] = report

    is_complete = await ReportGatherer(finder, fetcher, **options).gather("denials", add)
    return found, is_complete


async def test_every_proxy_is_asked_by_name_a_few_at_once():
    names = [f"node-{number}" for number in range(3 * CONCURRENCY)]
    fetcher = Fetcher()
    found, is_complete = await gather(Finder(*names), fetcher)
    assert sorted(found) == sorted(names)
    assert is_complete
    assert all(report.workers == (msgspec.Raw(b'{"a":1}'),) and report.is_complete for report in found.values())
    assert sorted(fetcher.asked) == sorted((name, "denials") for name in names)
    assert fetcher.most == CONCURRENCY


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (NodeUnreachableError("no route"), "no route"),
        (b"not JSON", NO_REPORT),
        (b'{"workers":{}}', NO_REPORT),
        (b"[" * 100_000, NO_REPORT),
        (None, NO_TIME),
    ],
)
async def test_a_proxy_without_a_report_has_an_error_and_the_others_count(answer, error):
    found, _ = await gather(Finder("a", "b"), Fetcher({"a": answer}), deadline_s=0.05)
    assert (found["a"].error, found["a"].workers) == (error, ())
    assert found["b"].error == ""


async def test_a_missing_worker_makes_a_report_incomplete():
    found, _ = await gather(Finder("a"), Fetcher({"a": b'{"workers":[],"missing":1}'}))
    assert not found["a"].is_complete


async def test_proxies_that_do_not_pull_and_those_above_the_limit_are_not_asked(monkeypatch):
    monkeypatch.setattr(module, "PROXIES_LIMIT", 1)
    fetcher = Fetcher()
    found, is_complete = await gather(Finder("a", "b", "c", silent=["c"], missing=["peer"]), fetcher)
    assert {name: report.error for name, report in found.items()} == {"a": "", "b": NOT_ASKED, "c": NOT_PULLING}
    assert [name for name, _ in fetcher.asked] == ["a"]
    assert not is_complete
