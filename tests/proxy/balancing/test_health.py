"""Servers are set aside for a growing while, tried by one request, and come back."""

from types import SimpleNamespace

import pytest

from maesh_core.proxy.balancing.health import JITTER, PassiveHealth


class Watch:
    """One server, the rules, and a clock that stands still."""

    def __init__(self, *, share=0.5, first_pause_s=1.0):
        self.clock = SimpleNamespace(now=1000.0)
        self.rules = PassiveHealth(
            self.clock, first_pause_s=first_pause_s, pause_limit_s=30.0, random_share=lambda: share
        )
        self.server = SimpleNamespace(aside=None, describe=lambda: "10.0.0.1:80")

    def fail(self):
        return self.rules.on_failure(self.server)

    def measure_pause(self):
        """Let time pass until a trial is due."""
        before = self.clock.now
        while not self.server.aside.is_due:
            self.clock.now += 0.01
        return round(self.clock.now - before, 1)


@pytest.fixture
def watch():
    return Watch()


def test_the_first_failure_sets_a_server_aside_and_success_takes_it_back(watch):
    assert watch.fail()
    assert not watch.server.aside.is_due
    assert not watch.fail()
    watch.rules.on_success(watch.server)
    assert watch.server.aside is None


def test_each_failed_trial_doubles_the_pause_up_to_its_limit(watch):
    watch.fail()
    pauses = []
    for _ in range(8):
        pauses.append(watch.measure_pause())
        watch.server.aside.begin_trial()
        watch.fail()
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_after_success_pauses_begin_anew(watch):
    watch.fail()
    watch.measure_pause()
    watch.server.aside.begin_trial()
    watch.fail()
    watch.rules.on_success(watch.server)
    watch.fail()
    assert watch.measure_pause() == 1


def test_failures_of_requests_that_were_under_way_do_not_lengthen_the_pause(watch):
    watch.fail()
    for _ in range(60):
        watch.fail()
    assert watch.measure_pause() == 1


def test_a_trial_that_never_tells_how_it_went_is_followed_by_another(watch):
    watch.fail()
    watch.measure_pause()
    watch.server.aside.begin_trial()
    assert not watch.server.aside.is_due
    assert watch.measure_pause() == 1


@pytest.mark.parametrize(("share", "pause_s"), [(0.0, 1 - JITTER), (1.0, 1 + JITTER)])
def test_pauses_differ_a_little(share, pause_s):
    watch = Watch(share=share)
    watch.fail()
    assert watch.measure_pause() == pytest.approx(pause_s)


def test_without_a_pause_no_server_is_set_aside():
    watch = Watch(first_pause_s=0.0)
    assert not watch.fail()
    assert watch.server.aside is None


def test_a_server_without_better_ones_may_be_used_for_a_first_pause_and_then_once_in_each(watch):
    watch.fail()
    aside = watch.server.aside
    watch.clock.now += 0.9
    aside.begin_trial()
    assert aside.is_due_alone
    watch.clock.now += 0.2
    assert not aside.is_due_alone
    watch.clock.now += 0.8
    assert aside.is_due_alone
    aside.begin_trial()
    assert not aside.is_due_alone


def test_a_server_that_keeps_failing_is_logged_once_and_once_more_when_it_is_back(watch, caplog):
    watch.fail()
    for _ in range(3):
        watch.measure_pause()
        watch.server.aside.begin_trial()
        watch.fail()
    assert caplog.messages == ["server 10.0.0.1:80 is set aside: it keeps failing"]
    caplog.clear()
    watch.rules.on_success(watch.server)
    assert caplog.messages == ["server 10.0.0.1:80 is in use again"]


def test_a_single_failure_is_not_logged(watch, caplog):
    watch.fail()
    watch.fail()
    watch.rules.on_success(watch.server)
    watch.rules.on_success(watch.server)
    assert caplog.messages == []
