"""Reports of proxies in, the document out; anything may be in a report."""

import msgspec
import pytest
from maesh_ratelimit.store_page import PROXIES_LIMIT, StorePage

from maesh_core.plugin import PageRequest, ProxyReport

AWAY = b'{"stores": [{"store": "redis", "server": "Redis at a port 1", "state": "away", "reason": "x", "nodes": 3}]}'


class FakeReports:
    """Gathers reports of proxies that a test made up."""

    def __init__(self, *reports, is_complete=True):
        self._reports, self._is_complete = reports, is_complete
        self.names = []

    async def gather_reports(self, name, add):
        self.names.append(name)
        for report in self._reports:
            add(report)
        return self._is_complete


async def get(*reports, is_complete=True):
    response = await StorePage(FakeReports(*reports, is_complete=is_complete)).respond(PageRequest())
    assert (response.status, response.content_type) == (200, "application/json")
    return msgspec.json.decode(response.body)


async def test_the_page_has_what_each_worker_of_each_proxy_says():
    reports = [
        ProxyReport(name="node-2", workers=(msgspec.Raw(AWAY), msgspec.Raw(b'{"stores": []}'))),
        ProxyReport(name="node-1", workers=(msgspec.Raw(b"{}"),)),
    ]
    document = await get(*reports)
    assert document["complete"]
    assert [proxy["name"] for proxy in document["proxies"]] == ["node-1", "node-2"]
    first, second = document["proxies"][1]["workers"]
    (state,) = first["stores"]
    assert (state["state"], state["reason"], state["nodes"]) == ("away", "x", 3)
    assert second == {"stores": []}


@pytest.mark.parametrize(
    "report",
    [
        ProxyReport(name="a", error="no answer"),
        ProxyReport(name="a", is_complete=False),
        ProxyReport(name="a", workers=(msgspec.Raw(b"[]"),)),
        ProxyReport(name="a", workers=(msgspec.Raw(b"{"),)),
        ProxyReport(name="a", workers=(msgspec.Raw(AWAY.replace(b"away", b"elsewhere")),)),
        ProxyReport(name="a", workers=(msgspec.Raw(AWAY.replace(b'"x"', b'"' + b"x" * 500 + b'"')),)),
        ProxyReport(name="a", workers=(msgspec.Raw(b"{}"),) * 2000),
    ],
)
async def test_what_is_missing_or_not_valid_makes_the_document_incomplete(report):
    document = await get(report)
    assert not document["complete"]
    assert len(document["proxies"]) == 1


def test_no_other_web_site_makes_a_browser_ask_all_proxies():
    assert StorePage(FakeReports()).is_costly


async def test_a_controller_that_does_not_answer_makes_the_document_incomplete():
    assert (await get(is_complete=False)) == {"complete": False, "proxies": []}


async def test_the_number_of_proxies_is_limited():
    document = await get(*(ProxyReport(name=f"{number}") for number in range(PROXIES_LIMIT + 5)))
    assert (document["complete"], len(document["proxies"])) == (False, PROXIES_LIMIT)
