import asyncio

import pytest

from maesh_core.controller.cluster.dns_keeper import DnsKeeper
from maesh_core.errors import ClusterDnsError
from maesh_core.model.keys import ObjectKey

LONG = ObjectKey("n", "long")


class Dns:
    def __init__(self):
        self.is_here = True
        self.plans = []
        self.applied = []
        self.failure = None

    async def is_prepared(self):
        return self.is_here

    async def plan(self, exact=None):
        if self.failure:
            raise self.failure
        self.plans.append(dict(exact))
        return self.plans[-1]

    async def apply(self, plan):
        self.applied.append(plan)
        return True


class Leadership:
    is_leader = True


class Kept:
    def __init__(self):
        self.dns, self.leadership = Dns(), Leadership()
        self.long = {}
        self.told = {}
        self.pauses = asyncio.Queue()
        self.keeper = DnsKeeper(
            self.dns, self.leadership, list_long=lambda: self.long, report=self.told.__setitem__, pause=self.pause
        )

    async def pause(self, _):
        await self.pauses.get()


@pytest.fixture
def kept():
    return Kept()


async def test_what_was_rewritten_is_restored_with_the_rules_of_long_names(kept):
    kept.long = {LONG: "maesh-cut"}
    await kept.keeper.check()
    assert kept.dns.applied == [{LONG: "maesh-cut"}]
    assert kept.keeper.repairs == 1
    assert kept.told == {LONG: ""}


async def test_a_cluster_that_was_never_prepared_is_left_alone_and_long_names_say_so(kept):
    kept.dns.is_here = False
    kept.long = {LONG: "maesh-cut"}
    await kept.keeper.check()
    assert kept.dns.plans == []
    assert "not prepared" in kept.told[LONG]


async def test_a_service_that_needs_no_rule_any_more_has_no_error_either(kept):
    kept.dns.is_here = False
    kept.long = {LONG: "maesh-cut"}
    await kept.keeper.check()
    kept.long = {}
    await kept.keeper.check()
    assert kept.told == {LONG: ""}


async def test_what_is_not_understood_is_reported_once_and_looked_at_again(kept, caplog):
    kept.dns.failure = ClusterDnsError("braces")
    kept.long = {LONG: "maesh-cut"}
    await kept.keeper.check()
    await kept.keeper.check()
    assert [record.message for record in caplog.records] == ["the cluster's DNS cannot be updated: braces"]
    assert "braces" in kept.told[LONG]
    assert kept.keeper.is_failing
    caplog.clear()
    kept.dns.failure = None
    await kept.keeper.check()
    await kept.keeper.check()
    assert kept.told == {LONG: ""}
    assert not kept.keeper.is_failing
    assert [text for text in caplog.messages if "again" in text] == ["the cluster's DNS can be updated again"]


async def test_looks_from_time_to_time_at_once_when_marked_and_only_while_it_leads(kept):
    running = asyncio.create_task(kept.keeper.run())
    try:
        await pass_until(lambda: len(kept.dns.applied) == 1)
        kept.pauses.put_nowait(None)
        await pass_until(lambda: len(kept.dns.applied) == 2)
        kept.keeper.mark()
        await pass_some()
        assert len(kept.dns.applied) == 2
        kept.long = {LONG: "maesh-cut"}
        kept.keeper.mark()
        await pass_until(lambda: len(kept.dns.applied) == 3)
        kept.leadership.is_leader = False
        kept.pauses.put_nowait(None)
        await pass_some()
        assert len(kept.dns.applied) == 3
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def pass_some():
    for _ in range(20):
        await asyncio.sleep(0)


async def pass_until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")
