"""What a worker records of denials, whatever clients send."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from maesh_acl.denials import log as module
from maesh_acl.denials.log import CLIENT_PATHS, PATH_CHARACTERS, WORKER_ENTRIES, DenialLog
from maesh_acl.denials.report import WorkerReport


class FakeTime:
    now = 100.0

    def __call__(self):
        return self.now


def note(log, *, client="10.0.0.1", target=b"/", method=b"GET", service="shop/app:80", **changes):
    fields = {"route": service, "destinations": ["app@shop"], "traffic_type": "http", **changes}
    log.note("audit", "client", service=service, client=client, method=method, target=target, **fields)


def read(log):
    return msgspec.json.decode(log.build_report(), type=WorkerReport)


def test_equal_denials_are_one_entry_with_the_first_and_the_last_time():
    time = FakeTime()
    log = DenialLog(read_time=time)
    note(log, target=b"/a?token=1")
    time.now = 150.0
    note(log, target=b"/a?token=2")
    report = read(log)
    (found,) = report.denials
    assert (report.since, found.count, found.first, found.last) == (100.0, 2, 100.0, 150.0)
    assert (found.key.path, found.key.method, found.key.route) == ("/a", "GET", "")


def test_a_route_is_named_if_it_is_not_the_service_itself():
    log = DenialLog()
    note(log, route="shop/app:80/rule/x")
    assert read(log).denials[0].key.route == "shop/app:80/rule/x"


def test_long_paths_and_those_that_are_not_utf_8_are_cut_and_marked():
    log = DenialLog()
    for target in (b"/" + b"a" * PATH_CHARACTERS, b"/b\xff/c", "/é".encode(), b"/ok"):
        note(log, target=target)
    found = [(each.key.path, each.key.is_path_cut) for each in read(log).denials]
    assert found == [("/" + "a" * (PATH_CHARACTERS - 1), True), ("/b", True), ("/é", False), ("/ok", False)]


def test_further_paths_of_a_client_are_counted_in_one_entry_for_each_method():
    log = DenialLog()
    for number in range(CLIENT_PATHS + 30):
        note(log, target=b"/%d" % number)
    for number in range(30):
        note(log, target=b"/%d" % number, method=b"ODD%d" % number)
    note(log, client="10.0.0.2")
    report = read(log)
    rest = {each.key.method: each.count for each in report.denials if each.key.is_path_cut}
    assert rest == {"GET": 30, "": 30}
    assert len(report.denials) == CLIENT_PATHS + 2 + 1
    assert report.forgotten == 0


def test_the_least_recently_used_entry_is_forgotten_at_the_limit(monkeypatch):
    monkeypatch.setattr(module, "NODE_ENTRIES", WORKER_ENTRIES)
    log = DenialLog()
    for number in range(WORKER_ENTRIES):
        note(log, client=f"10.1.{number // 250}.{number % 250}")
    note(log, client="10.1.0.0")
    note(log, client="10.2.0.0")
    report = read(log)
    clients = {each.key.client for each in report.denials}
    assert len(report.denials) == WORKER_ENTRIES
    assert {"10.1.0.0", "10.2.0.0"} <= clients
    assert "10.1.0.1" not in clients
    assert report.forgotten == 1


def test_a_client_of_very_many_services_and_paths_pushes_out_no_entry_of_others():
    log = DenialLog(workers=1000)
    others = [(f"10.1.0.{client}", f"/{path}") for client in range(9) for path in range(5)]
    for client, path in others:
        note(log, client=client, target=path.encode())
    for number in range(20 * WORKER_ENTRIES):
        note(log, client="10.9.9.9", service=f"shop/app-{number // 50}:80", target=b"/%d" % number)
    report = read(log)
    kept = {(each.key.client, each.key.path) for each in report.denials}
    assert set(others) <= kept
    assert len(report.denials) == WORKER_ENTRIES
    assert report.forgotten == 19 * WORKER_ENTRIES + len(others)


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.binary(max_size=300), st.sampled_from([b"GET", b"POST", b"X" * 100])),
        max_size=400,
    )
)
def test_whatever_clients_send_the_log_stays_within_its_limits_and_counts_what_it_keeps(sent):
    log = DenialLog(workers=1000)
    for client, target, method in sent:
        note(log, client=f"client-{client % 7}", target=b"/" + target, method=method)
    report = read(log)
    assert len(report.denials) <= WORKER_ENTRIES
    assert sum(each.count for each in report.denials) + report.forgotten <= len(sent)
    if not report.forgotten:
        assert sum(each.count for each in report.denials) == len(sent)
    assert all(len(each.key.path) <= PATH_CHARACTERS for each in report.denials)
