"""The report of denials, from what proxies report, which may be anything."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_acl import AccessSettings
from maesh_acl.controller import ControllerHalf
from maesh_acl.denials import gathering as module
from maesh_acl.denials.gathering import KEEP_EVERY_S, KEEP_PAUSES, DenialGathering, DenialPage
from maesh_acl.denials.keeping import KeptDenials
from maesh_acl.denials.report import ClientAccount, CountedDenial, DenialKey, DenialReport, WorkerReport

from maesh_core.plugin import PageRequest, ProxyReport

NOW = 1_800_000_000.0
START = "2027-01-15T07:00:00Z"
"""An hour before NOW."""


def build_pod(namespace, account, *, start=START, host_network=False):
    found: Any = SimpleNamespace(
        metadata=SimpleNamespace(namespace=namespace),
        spec=SimpleNamespace(service_account_name=account, host_network=host_network),
        status=SimpleNamespace(start_time=start),
    )
    return found


PODS = {
    "10.0.0.1": [build_pod("shop", "web")],
    "10.0.0.2": [build_pod("shop", "web")],
    "10.0.0.3": [build_pod("shop", "web"), build_pod("shop", "batch")],
    "10.0.0.4": [build_pod("shop", "web", host_network=True)],
    "10.0.0.5": [build_pod("shop", "web", start="")],
}


def count(client, *, number=1, first=NOW - 60, last=NOW - 30, **changes):
    fields: Any = {
        "mode": "audit",
        "service": "shop/app:80",
        "destinations": ("app@shop",),
        "traffic_type": "http",
        "reason": "client",
        "method": "GET",
        "path": "/a",
        **changes,
    }
    return CountedDenial(key=DenialKey(client=client, **fields), count=number, first=first, last=last)


def build_body(*denials, since=NOW - 600, forgotten=0):
    return msgspec.Raw(msgspec.json.encode(WorkerReport(since=since, forgotten=forgotten, denials=denials)))


def gather(*reports, is_complete=True, kept=None):
    gathering = DenialGathering(lambda address: PODS.get(address, []), NOW, KeptDenials() if kept is None else kept)
    for report in reports:
        gathering.add(report)
    for _ in gathering.add_kept():
        pass
    return gathering.build(is_complete=is_complete)


def test_the_denials_of_one_account_are_added_up_over_addresses_workers_and_proxies():
    report = gather(
        ProxyReport(name="a", workers=(build_body(count("10.0.0.1")), build_body(count("10.0.0.2", last=NOW - 5)))),
        ProxyReport(
            name="b", workers=(build_body(count("::ffff:10.0.0.1", number=4, first=NOW - 90), since=NOW - 300),)
        ),
    )
    (found,) = report.denials
    assert found.client == ClientAccount(namespace="shop", service_account="web")
    assert (found.count, found.address) == (6, "10.0.0.2")
    assert (found.first, found.last) == ("2027-01-15T07:58:30Z", "2027-01-15T07:59:55Z")
    assert (report.since, report.complete) == ("2027-01-15T07:55:00Z", True)
    assert [node.since for node in report.nodes] == ["2027-01-15T07:50:00Z", "2027-01-15T07:55:00Z"]


def test_denials_are_counted_by_the_targets_that_concern_them():
    bodies = [
        build_body(count("10.0.0.1", reason="request", traffic_targets=names)) for names in (("a",), ("b",), ("a",))
    ]
    report = gather(ProxyReport(name="n", workers=tuple(bodies)))
    assert sorted((each.traffic_targets, each.count) for each in report.denials) == [(("a",), 2), (("b",), 1)]


@pytest.mark.parametrize("address", ["10.0.0.3", "10.0.0.4", "10.9.9.9"])
def test_an_address_of_several_accounts_of_a_node_or_of_no_pod_names_no_client(address):
    (found,) = gather(ProxyReport(name="a", workers=(build_body(count(address)),))).denials
    assert (found.client, found.address) == (None, address)


def test_an_address_whose_pod_started_after_the_first_denial_names_no_client():
    before = NOW - 3700
    (found,) = gather(ProxyReport(name="a", workers=(build_body(count("10.0.0.1", first=before)),))).denials
    assert found.client is None
    (found,) = gather(ProxyReport(name="a", workers=(build_body(count("10.0.0.5", first=before)),))).denials
    assert found.client is not None


@pytest.mark.parametrize(
    "report",
    [
        ProxyReport(name="a", error="no route"),
        ProxyReport(name="a", workers=(build_body(),), is_complete=False),
        ProxyReport(name="a", workers=(build_body(forgotten=1),)),
        ProxyReport(name="a", workers=(msgspec.Raw(b"{}"),)),
        ProxyReport(name="a", workers=(msgspec.Raw(b"[" * 5000),)),
        ProxyReport(name="a", workers=(msgspec.Raw(bytes(build_body(count("10.0.0.1"))).replace(b"GET", b"\xff")),)),
        ProxyReport(name="a", workers=(build_body(since=1e300),)),
        ProxyReport(name="a", workers=(build_body(count("10.0.0.1", number=0)),)),
        ProxyReport(name="a", workers=(build_body(count("10.0.0.1", number=2**53 + 1)),)),
        ProxyReport(name="a", workers=(build_body(count("10.0.0.1", last=NOW + 1e6)),)),
        ProxyReport(name="a", workers=(build_body(count("10.0.0.1", path="/" * 2000)),)),
        ProxyReport(name="a", workers=(build_body(count("10.0.0.1", traffic_targets=("t" * 2000,))),)),
        ProxyReport(name="a", workers=(build_body(count("10.0.0.1", traffic_targets=("t@shop",) * 9)),)),
    ],
)
def test_what_a_proxy_cannot_have_recorded_makes_the_report_incomplete_and_is_left_out(report):
    found = gather(report)
    assert not found.complete
    assert found.denials == ()


def test_the_report_is_incomplete_if_a_controller_did_not_name_its_proxies():
    assert not gather(ProxyReport(name="a", workers=(build_body(),)), is_complete=False).complete


def test_only_the_latest_entries_are_kept(monkeypatch):
    monkeypatch.setattr(module, "ENTRIES_LIMIT", 3)
    entries = [count("10.0.0.1", path=f"/{number}", last=NOW - 10 + number) for number in range(10)]
    found = gather(ProxyReport(name="a", workers=(build_body(*entries),)))
    assert [each.path for each in found.denials] == ["/3", "/4", "/5"]  # of those up to twice the limit
    assert not found.complete


def test_what_a_proxy_had_reported_before_a_restart_still_counts():
    kept = KeptDenials()
    before = ProxyReport(name="a", workers=(build_body(count("10.0.0.1", number=5), since=NOW - 600),))
    for _ in range(2):
        report = gather(before, kept=kept)
        assert (report.denials[0].count, report.kept_since) == (5, "")
    after = ProxyReport(name="a", workers=(build_body(count("10.0.0.2", number=2), since=NOW - 60),))
    for _ in range(2):
        report = gather(after, kept=kept)
        (found,) = report.denials
        assert (found.count, found.client) == (7, ClientAccount(namespace="shop", service_account="web"))
        assert (report.since, report.kept_since) == ("2027-01-15T07:59:00Z", "2027-01-15T07:50:00Z")
        assert report.complete


def test_an_account_is_still_known_when_the_proxy_and_the_pod_have_ended(monkeypatch):
    kept = KeptDenials()
    gather(ProxyReport(name="a", workers=(build_body(count("10.0.0.1")),)), kept=kept)
    monkeypatch.delitem(PODS, "10.0.0.1")
    (found,) = gather(kept=kept).denials
    assert found.client == ClientAccount(namespace="shop", service_account="web")


def test_a_client_keeps_its_account_when_its_pod_has_ended_unless_its_address_is_used_again(monkeypatch):
    kept, account = KeptDenials(), ClientAccount(namespace="shop", service_account="web")
    job, other = (count("10.0.0.1", path=path, number=2) for path in ("/job", "/other"))
    report = ProxyReport(name="a", workers=(build_body(job, other),))
    assert {each.client for each in gather(report, kept=kept).denials} == {account}
    monkeypatch.setitem(PODS, "10.0.0.1", [build_pod("shop", "batch", start="2027-01-15T07:59:50Z")])
    grown = count("10.0.0.1", path="/other", number=3, last=NOW - 5)
    report = ProxyReport(name="a", workers=(build_body(job, grown),))
    for _ in range(2):
        found = {each.path: (each.client, each.count) for each in gather(report, kept=kept).denials}
        assert found == {"/job": (account, 2), "/other": (None, 3)}


def test_a_proxy_that_does_not_answer_counts_with_what_it_reported_last():
    kept = KeptDenials()
    gather(ProxyReport(name="a", workers=(build_body(count("10.0.0.1", number=3)),)), kept=kept)
    report = gather(ProxyReport(name="a", error="no route"), kept=kept)
    assert ([each.count for each in report.denials], report.complete) == ([3], False)
    report = gather(ProxyReport(name="a", workers=(build_body(count("10.0.0.1", number=4)),)), kept=kept)
    assert ([each.count for each in report.denials], report.kept_since) == ([4], "")


WORKERS = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from([NOW - 600, NOW - 60, NOW - 6]))
ROUNDS = st.lists(st.dictionaries(WORKERS, st.integers(1, 9), max_size=6), min_size=1, max_size=6)


@given(ROUNDS)
def test_the_report_adds_up_the_last_reports_of_all_workers_that_were_ever_seen(rounds):
    kept, last = KeptDenials(), {}
    for found in rounds:
        last |= found
        reports: Any = {}
        for (name, since), number in found.items():
            reports.setdefault(name, []).append(build_body(count("10.0.0.1", number=number), since=since))
        report = gather(*(ProxyReport(name=name, workers=tuple(each)) for name, each in reports.items()), kept=kept)
        assert sum(each.count for each in report.denials) == sum(last.values())
        assert bool(report.kept_since) == bool(last.keys() - found.keys())


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=20))
def test_whatever_json_a_worker_reports_the_report_lists_the_proxy(document):
    report = gather(ProxyReport(name="a", workers=(msgspec.Raw(msgspec.json.encode(document)),)))
    assert ([node.name for node in report.nodes], report.denials) == (["a"], ())


class FakeController:
    def __init__(self):
        self.asked = 0

    async def gather_reports(self, name, add):
        self.asked += 1
        await asyncio.sleep(0)
        add(ProxyReport(name="a", workers=(build_body(count("10.0.0.1")),)))
        return True

    def find_pods(self, address):
        return PODS.get(address, [])


async def test_the_page_asks_the_proxies_once_for_all_who_ask_within_a_second():
    controller, time = FakeController(), SimpleNamespace(now=5.0)
    page = DenialPage(controller, clock=lambda: time.now, wall_clock=lambda: NOW)
    answers = await asyncio.gather(*(page.respond(PageRequest()) for _ in range(3)))
    time.now = 5.9
    await page.respond(PageRequest())
    assert controller.asked == 1
    report = msgspec.json.decode(answers[0].body, type=DenialReport)
    assert report.denials[0].count == 1
    time.now = 6.0
    await page.respond(PageRequest())
    assert controller.asked == 2


@pytest.mark.parametrize(("takes_s", "pause_s"), [(0.0, KEEP_EVERY_S), (5.0, 5.0 * KEEP_PAUSES)])
async def test_the_service_asks_all_proxies_regularly_and_less_often_if_that_takes_long(takes_s, pause_s):
    controller, time, pauses = FakeController(), SimpleNamespace(now=5.0), []

    async def pause(duration_s):
        pauses.append(duration_s)
        time.now += duration_s
        if len(pauses) == 3:
            raise asyncio.CancelledError

    async def gather_reports(name, add):
        time.now += takes_s
        return await FakeController.gather_reports(controller, name, add)

    slow: Any = SimpleNamespace(gather_reports=gather_reports, find_pods=controller.find_pods)
    page = DenialPage(slow, clock=lambda: time.now, wall_clock=lambda: NOW, pause=pause)
    with pytest.raises(asyncio.CancelledError):
        await page.run()
    assert (controller.asked, pauses) == (3, [pause_s] * 3)


def test_the_page_and_the_service_keep_the_same_denials():
    controller: Any = FakeController()
    half = ControllerHalf(AccessSettings())
    pages: list[object] = [*half.maesh_api_pages(controller)]
    assert pages[0] is half.maesh_controller_services(controller)[0]


@pytest.mark.parametrize("mode", ["audit", "enforce"])
def test_a_controller_warns_that_it_only_audits(mode, caplog):
    controller: Any = SimpleNamespace()
    ControllerHalf(AccessSettings(mode=mode)).maesh_api_pages(controller)
    assert ["audit mode" in each.message for each in caplog.records] == [True] * (mode == "audit")
