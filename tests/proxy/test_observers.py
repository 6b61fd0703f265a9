"""Observers get every record; one that raises concerns nobody else."""

import pytest

from maesh_core.model.metrics import MetricFamily
from maesh_core.model.traffic_record import TCP, build_record
from maesh_core.proxy.observers import Observers

FAILURES = "maesh_observer_failures"


class Keeping:
    def __init__(self, name):
        self.name, self.records, self.is_closed = name, [], False

    def observe(self, record):
        self.records.append(record)


class Whole(Keeping):
    def collect_metrics(self):
        return [MetricFamily(name=f"maesh_{self.name}", type="counter", help="", samples=(((), len(self.records)),))]

    def close(self):
        self.is_closed = True


class Broken:
    name = "broken"

    def observe(self, record):
        raise RuntimeError("cannot observe")

    def collect_metrics(self):
        raise RuntimeError("cannot collect")

    def close(self):
        raise RuntimeError("cannot close")


@pytest.fixture
def record():
    return build_record(TCP, started_at=0.0, duration_s=0.0, client="10.0.0.1", entrypoint=1, protocol="TCP")


def read(observers):
    return {family.name: dict(family.samples) for family in observers.collect_metrics()}


def test_every_observer_gets_each_record_while_it_is_there(record):
    first, second = Keeping("first"), Keeping("second")
    observers = Observers([first])
    observers.observe(record)
    observers.add(second)
    observers.observe(record)
    observers.remove(first)
    observers.observe(record)
    assert (len(first.records), len(second.records)) == (2, 2)


def test_it_is_active_while_there_is_an_observer():
    observers, observer = Observers(), Keeping("one")
    assert not observers.is_active
    observers.add(observer)
    assert observers.is_active
    observers.remove(observer)
    assert not observers.is_active
    assert Observers([observer]).is_active


def test_an_observer_that_raises_is_counted_and_logged_once_and_others_get_the_record(record, caplog):
    last = Keeping("last")
    observers = Observers([Broken(), last])
    for _ in range(3):
        observers.observe(record)
    assert len(last.records) == 3
    assert read(observers)[FAILURES] == {("broken",): 4}  # it cannot be collected either
    assert caplog.text.count("observer broken failed") == 1


def test_metrics_of_others_are_collected_when_one_raises(record):
    whole = Whole("whole")
    observers = Observers([Broken(), whole, Keeping("plain")])
    whole.observe(record)
    assert read(observers)["maesh_whole"] == {(): 1}
    assert read(Observers()) == {FAILURES: {}}


def test_closing_closes_each_and_ends_the_observation(record, caplog):
    whole = Whole("whole")
    observers = Observers([Broken(), Keeping("plain"), whole])
    observers.close()
    assert whole.is_closed
    assert not observers.is_active
    observers.observe(record)
    assert whole.records == []
    assert "observer broken failed to finish" in caplog.text
