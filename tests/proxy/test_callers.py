"""Who calls whom: counters by client address and service, within a limit."""

from maesh_core.proxy.callers import OTHER, UNUSED_S, Caller, CallerCounts


class Time:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0.0

    def read(self):
        return self.now


def read_calls(counts, noun="requests"):
    (family,) = [each for each in counts.collect_metrics() if each.name == f"maesh_edge_{noun}"]
    return dict(family.samples)


def test_connections_of_one_address_share_a_counter():
    counts = CallerCounts(10, Time().read)
    for caller in (Caller("10.0.0.1"), Caller("10.0.0.1"), Caller("::ffff:10.0.0.1")):
        counts.switch(caller, "a/b:80").requests += 1
    assert read_calls(counts) == {("10.0.0.1", "a/b:80"): 3}


def test_further_pairs_are_counted_together_at_the_limit():
    counts = CallerCounts(1, Time().read)
    for number in range(3):
        counts.switch(Caller(f"10.0.0.{number}"), "a/b:80").requests += 1
    assert read_calls(counts) == {("10.0.0.0", "a/b:80"): 1, (OTHER, "a/b:80"): 2}


def test_a_pair_that_no_connection_uses_makes_room_after_an_hour_and_is_not_lost():
    time = Time()
    counts = CallerCounts(2, time.read)
    gone, lasting = Caller("10.0.0.1"), Caller("10.0.0.2")
    counts.switch(gone, "a/b:80").requests += 5
    counts.switch(lasting, "a/b:80").requests += 1
    counts.leave(gone)
    time.now = UNUSED_S + 1
    counts.switch(Caller("10.0.0.3"), "a/b:80").requests += 1
    assert lasting.counter is not None
    lasting.counter.requests += 1
    assert read_calls(counts) == {("10.0.0.2", "a/b:80"): 2, ("10.0.0.3", "a/b:80"): 1, (OTHER, "a/b:80"): 5}


def test_a_request_that_ends_after_its_connection_is_counted_and_holds_nothing():
    counts = CallerCounts(10, Time().read)
    caller = Caller("10.0.0.1")
    counts.switch(caller, "a/b:80").requests += 1
    counts.leave(caller)
    counter = counts.switch(caller, "a/b:80")
    counter.requests += 1
    assert counter.users == 0
    assert read_calls(counts) == {("10.0.0.1", "a/b:80"): 2}


def test_services_that_no_longer_exist_are_forgotten():
    counts = CallerCounts(1, Time().read)
    for service in ("a/b:80", "a/c:80", "a/d:80"):
        counts.switch(Caller("10.0.0.1"), service).requests += 1
    counts.keep_only(lambda service: service == "a/c:80")
    assert read_calls(counts) == {(OTHER, "a/c:80"): 1}


def test_there_are_no_metrics_with_a_limit_of_0():
    counts = CallerCounts(0, Time().read)
    counts.switch(Caller("10.0.0.1"), "a/b:80").requests += 1
    assert counts.collect_metrics() == []
