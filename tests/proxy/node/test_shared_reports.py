"""A report is collected once at a time, and used for a while, however many ask."""

import asyncio

import pytest

from maesh_core.proxy.node.shared_reports import AGE_S, SharedReports


class Workers:
    """Collects reports when the test lets it; `failing` names raise."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.now = 0.0

    async def collect(self, name: str) -> bytes | None:
        self.asked.append(name)
        await self.may_answer.wait()
        if name == "failing":
            raise OSError
        return None if name == "unknown" else b"%d" % len(self.asked)


async def test_all_who_ask_meanwhile_and_soon_after_get_the_same_report() -> None:
    workers = Workers()
    reports = SharedReports(workers.collect, clock=lambda: workers.now)
    asking = [asyncio.create_task(reports.render("denials")) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    workers.may_answer.set()
    assert await asyncio.gather(*asking[1:]) == [b"1"] * 4
    assert await reports.render("denials") == b"1"
    workers.now = AGE_S
    assert await reports.render("denials") == b"2"
    assert workers.asked == ["denials"] * 2


async def test_a_name_without_a_report_and_a_failure_are_not_remembered() -> None:
    workers = Workers()
    workers.may_answer.set()
    reports = SharedReports(workers.collect, clock=lambda: workers.now)
    assert [await reports.render("unknown") for _ in range(2)] == [None, None]
    for _ in range(2):
        with pytest.raises(OSError):
            await reports.render("failing")
    assert workers.asked == ["unknown"] * 2 + ["failing"] * 2
    assert repr(reports) == "<SharedReports none>"
