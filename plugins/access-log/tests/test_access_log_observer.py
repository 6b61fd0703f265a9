"""The observer of a worker: records in, batches out, four times a second or when there are many."""

import asyncio
import os
import signal
from typing import Any

import pytest
from maesh_access_log import AccessLogSettings, ServiceAccessLog
from maesh_access_log.hooks import ProxyHalf
from maesh_access_log.observer import BATCH_BYTES, BATCH_LINES, RENDERED_RECORDS, AccessLog

from maesh_core.plugin import ConfigurationError
from maesh_testing import FakeNode

from .records import FakeHeaders, build_connection, build_named_node, build_record


class FakeWriter:
    """Keeps batches."""

    def __init__(self):
        self.batches, self.events = [], []
        self.written, self.dropped = 3, 4

    def put(self, batch, lines):
        assert batch.count(b"\n") == lines
        self.batches.append(batch.decode())

    def reopen(self):
        self.events.append("reopen")

    def close(self):
        self.events.append("close")


def build_log(**settings) -> tuple[AccessLog, Any]:
    writer: Any = FakeWriter()
    return AccessLog(AccessLogSettings(**{"format": "%{RouterName}", **settings}), writer), writer


def open_log(path, node: Any, **settings: Any) -> Any:
    (log,) = ProxyHalf(AccessLogSettings(file=str(path), **settings)).maesh_traffic_observers(node)
    return log


def list_logged(log, writer, *records):
    for record in records:
        log.observe(record)
    log.flush()
    return "".join(writer.batches).split("\n")[:-1]


def test_records_wait_for_the_clock():
    log, writer = build_log()
    log.observe(build_record())
    assert writer.batches == []
    log.flush(1.0)
    log.flush(2.0)
    assert writer.batches == ["shop/cart:80\n"]


def test_a_large_batch_does_not_wait():
    log, writer = build_log()
    for _ in range(BATCH_LINES):
        log.observe(build_record())
    assert writer.batches == ["shop/cart:80\n" * BATCH_LINES]
    assert repr(log).startswith("<AccessLog 0 lines")


def test_a_batch_of_many_bytes_does_not_wait():
    log, writer = build_log(headers=(), format="%{request_User-Agent}%{request_User-Agent}%{request_User-Agent}")
    headers = FakeHeaders(user_agent=b"a" * 1000)
    count = 0
    while not writer.batches:
        log.observe(build_record(headers=headers))
        count += 1
    (batch,) = writer.batches
    assert BATCH_BYTES <= len(batch) <= BATCH_BYTES + RENDERED_RECORDS * 3001
    assert batch.count("\n") == count < BATCH_LINES


def test_a_record_that_cannot_be_rendered_is_counted_and_others_are_written(caplog):
    class Broken:
        def get(self, name):
            raise RuntimeError("broken")

    log, writer = build_log(format="%{RouterName}%{request_A}")
    broken = build_record(headers=Broken())
    assert list_logged(log, writer, build_record(), broken, build_record(), broken) == ["shop/cart:80-"] * 2
    assert log.collect_metrics()[1].samples[0][1] == writer.dropped + 2
    assert caplog.text.count("a record cannot be rendered") == 1


def test_only_records_that_pass_the_filters_are_written():
    log, writer = build_log(errors_only=True)
    assert list_logged(log, writer, build_record(), build_record(status=500, service="shop/pay:80")) == ["shop/pay:80"]


@pytest.mark.parametrize(("services", "without"), [("all", ["shop/db:5432", "-"]), ("annotated", [])])
def test_an_annotation_decides_for_its_service_and_the_setting_for_others(services, without):
    log, writer = build_log(services=services)
    log.apply_settings({"shop/cart": ServiceAccessLog(is_logged=True), "shop/pay": ServiceAccessLog(is_logged=False)})
    records = [build_record(), build_record(service="shop/pay:80"), build_connection()]
    refused = build_record("refused", service="", destination="")
    assert list_logged(log, writer, *records, refused) == ["shop/cart:80", *without]


def test_an_annotation_of_a_port_decides_for_this_port():
    log, writer = build_log()
    log.apply_settings(
        {"shop/cart": ServiceAccessLog(is_logged=False), "shop/cart:81": ServiceAccessLog(is_logged=True)}
    )
    records = [build_record(), build_record(service="shop/cart:81"), build_record(service="shop/cart:81/split/s")]
    assert list_logged(log, writer, *records) == ["shop/cart:81", "shop/cart:81/split/s"]


def test_a_changed_annotation_has_an_effect_at_once():
    log, writer = build_log()
    log.apply_settings({"shop/cart": ServiceAccessLog(is_logged=False)})
    log.observe(build_record())
    log.apply_settings({})
    assert list_logged(log, writer, build_record()) == ["shop/cart:80"]


def test_metrics_count_what_was_written_and_dropped():
    log, _ = build_log()
    found = {family.name: family.samples[0][1] for family in log.collect_metrics()}
    assert found == {"maesh_access_log_written": 3, "maesh_access_log_dropped": 4}


def test_the_end_and_the_signal_flush_first():
    log, writer = build_log()
    log.observe(build_record())
    log.reopen()
    log.observe(build_record())
    log.close()
    assert writer.batches == ["shop/cart:80\n"] * 2
    assert writer.events == ["reopen", "close"]


async def test_a_proxy_writes_to_the_file_until_its_end(tmp_path):
    path, node = tmp_path / "log", FakeNode()
    log = open_log(path, node)
    log.observe(build_record())
    node.pass_time(0.25)
    log.observe(build_connection())
    log.close()
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize(("form", "line"), [("%{ClientPod}", "shop/web-0"), ("common", ""), ("%{ClientHost}", "")])
async def test_names_of_pods_are_followed_only_by_a_format_that_shows_them(tmp_path, form, line):
    path, node, followed = tmp_path / "log", build_named_node(), []
    follow = node.follow_pod_names
    node.follow_pod_names = lambda: followed.append(form) or follow()
    log = open_log(path, node, format=form)
    log.observe(build_record())
    log.close()
    assert followed == [form] * bool(line)
    assert line in path.read_text()


async def test_sigusr1_opens_the_file_again(tmp_path):
    path = tmp_path / "log"
    path.touch()
    log = open_log(path, FakeNode())
    path.rename(tmp_path / "old")
    os.kill(os.getpid(), signal.SIGUSR1)
    while not path.exists():  # noqa: ASYNC110 - the thread opens it
        await asyncio.sleep(0.001)
    log.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


async def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot open .*/nothing/log: No such file or directory"):
        open_log(tmp_path / "nothing" / "log", FakeNode())


def test_records_that_no_filter_selects_take_no_memory():
    log, writer = build_log(errors_only=True)
    for _ in range(10 * RENDERED_RECORDS):
        log.observe(build_record())
        log.flush()
    assert log._pieces == []
    assert writer.batches == []
