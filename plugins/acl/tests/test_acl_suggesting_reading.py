"""What was observed, read from a report and from an access log in JSON."""

import json

import msgspec
import pytest
from maesh_access_log.rendering import build_renderer
from maesh_acl.denials.report import ClientAccount, Denial, DenialReport
from maesh_acl.suggesting import reading
from maesh_acl.suggesting.reading import (
    AccessLogReader,
    build_observations,
    find_accounts,
    is_report,
    list_pods,
    parse_report,
    read_report,
)

from maesh_core.model.traffic_record import build_record
from maesh_core.plugin import ConfigurationError, ObjectKey

WEB = ObjectKey("shop", "web")


def build_denial(**changes):
    fields = {
        "mode": "audit",
        "service": "shop/api:80",
        "destinations": ("api-v2@shop",),
        "client": ClientAccount(namespace="shop", service_account="web"),
        "address": "10.0.0.9",
        "traffic_type": "http",
        "method": "GET",
        "path": "/a",
        "is_path_cut": False,
        "route": "shop/api:80/split/canary",
        "reason": "client",
        "count": 3,
        "first": "2026-01-01T10:00:00Z",
        "last": "2026-01-01T11:00:00Z",
    }
    return Denial(**{**fields, **changes})


def build_line(**changes):
    fields = {
        "StartUTC": "2026-01-01T10:00:00.000Z",
        "ClientHost": "10.0.0.9",
        "ClientPod": "shop/web-1",
        "RequestPath": "/a?b=c",
        "RouterName": "shop/api:80",
        "ServiceName": "shop/api:80",
        "Kind": "http",
        "RequestMethod": "GET",
        "DownstreamStatus": 200,
        "Reason": "",
    }
    return json.dumps({**fields, **changes}).encode()


def read(*lines, with_denied=False):
    reader = AccessLogReader(with_denied=with_denied)
    reader.read_lines(lines)
    return reader.build()


def observe(*lines, **options):
    return list(build_observations(read(*lines, **options), {"shop/web-1": WEB}))


def test_a_report_has_what_passed_in_audit_mode():
    report = DenialReport(since="", complete=True, denials=(build_denial(), build_denial(mode="enforce", path="/b")))
    (found,) = read_report(report, with_denied=False)
    assert (found.client, found.path, found.count) == (WEB, "/a", 3)
    assert (found.destination, found.leaves) == ("shop/api:80/split/canary", ("api-v2@shop",))
    assert len(list(read_report(report, with_denied=True))) == 2


def test_a_client_without_an_account_is_kept_with_its_address():
    report = DenialReport(since="", complete=True, denials=(build_denial(client=None, is_path_cut=True),))
    (found,) = read_report(report, with_denied=False)
    assert (found.client, found.address, found.is_cut) == (None, "10.0.0.9", True)


def test_a_file_with_a_report_is_told_from_a_log():
    report = msgspec.json.encode(DenialReport(since="", complete=True, denials=(build_denial(),)))
    assert is_report(b"\n " + report)
    assert parse_report(report).denials == (build_denial(),)
    assert not is_report(build_line(RequestPath='/"denials"'))
    with pytest.raises(ConfigurationError, match="not a report of denials"):
        parse_report(b'{"denials": 3}')


def test_equal_lines_of_a_log_are_one_observation():
    later = build_line(StartUTC="2026-01-01T11:00:00.000Z", RequestPath="/a")
    (found,) = observe(later, build_line(), b"", b"  \n")
    assert (found.client, found.method, found.path, found.count) == (WEB, "GET", "/a", 2)
    assert (found.first, found.last) == ("2026-01-01T10:00:00.000Z", "2026-01-01T11:00:00.000Z")
    assert (found.service, found.destination, found.is_part) == ("shop/api:80", "", True)


def test_tunnels_are_requests_and_streams_have_none():
    found = observe(
        build_line(Kind="tunnel"),
        build_line(Kind="tcp", RequestMethod="", RequestPath=""),
        build_line(Kind="udp", ServiceName="shop/api:80/split/a/b"),
    )
    assert [(each.traffic_type, each.method, each.path) for each in found] == [
        ("http", "GET", "/a"),
        ("tcp", "", ""),
        ("udp", "", ""),
    ]
    assert found[2].destination == "shop/api:80/split/a/b"


def test_what_was_not_routed_is_skipped_and_other_lines_are_counted():
    refused, unknown = build_line(Kind="refused"), build_line(RouterName="")
    long = build_line(RequestPath="/" + "a" * 70000)
    log = read(refused, unknown, b"10.1.2.3 - - [29/Nov/2025:19:32:52 +0000]", b"[1]", b'{"Kind": 3}', b"\xff", long)
    assert (log.visits, log.ignored) == ({}, 5)


def test_denied_requests_are_left_out_unless_they_are_asked_for():
    denied = build_line(DownstreamStatus=403, Reason="access denied: no rule allows this client")
    closed = build_line(Kind="tcp", DownstreamStatus=0, Reason="access denied")
    forged = build_line(DownstreamStatus=403)  # the answer of a server
    log = read(denied, closed, forged)
    assert (len(log.visits), log.denied) == (1, 2)
    assert len(read(denied, closed, forged, with_denied=True).visits) == 2


@pytest.mark.parametrize(
    ("target", "path", "is_cut"),
    [
        ("/" + "a" * 1023 + "...", "/" + "a" * 1023, True),
        ("/" + "a" * 63 + "...", "/" + "a" * 63, True),
        ("/a?" + "b" * 1021 + "...", "/a", False),
        ("/a...", "/a...", False),
    ],
)
def test_a_path_that_was_cut_is_the_beginning_of_one(target, path, is_cut):
    (found,) = observe(build_line(RequestPath=target))
    assert (found.path, found.is_cut) == (path, is_cut)


def test_a_log_with_too_many_different_requests_is_refused(monkeypatch):
    monkeypatch.setattr(reading, "OBSERVATION_LIMIT", 3)
    with pytest.raises(ConfigurationError, match="more than 3 different requests"):
        read(*(build_line(RequestPath=f"/{number}") for number in range(4)))


def test_a_pod_that_has_ended_has_the_account_of_the_other_pods_of_its_deployment():
    known = {
        "shop/web-6f9d8c7b5d-abcde": WEB,
        "shop/mixed-6f9d8c7b5d-abcde": WEB,
        "shop/mixed-7f9d8c7b5d-fghij": ObjectKey("shop", "other"),
        "shop/db-0": ObjectKey("shop", "db"),
    }
    gone = ["shop/web-5c4d9b8f7-zzzzz", "shop/mixed-5c4d9b8f7-zzzzz", "other/web-6f9d8c7b5d-abcde", "shop/db-1"]
    assert find_accounts([*gone, "shop/db-0"], known) == {gone[0]: WEB, "shop/db-0": ObjectKey("shop", "db")}


def test_in_manifests_a_workload_stands_for_its_pods():
    known = {f"shop/{name}": ObjectKey("shop", name) for name in ("web", "db", "agent", "web-1")}
    pods = ["shop/web-6f9d8c7b5d-abcde", "shop/db-0", "shop/agent-x7k2p", "shop/web-1", "shop/other-0", "shop/webx"]
    found = find_accounts(pods, known)
    assert {pod: account.name for pod, account in found.items()} == {
        "shop/web-6f9d8c7b5d-abcde": "web",
        "shop/db-0": "db",
        "shop/agent-x7k2p": "agent",
        "shop/web-1": "web-1",
    }


def test_clients_are_pods_and_the_others_have_no_account():
    log = read(build_line(), build_line(ClientPod=""), build_line(ClientPod="shop/gone"))
    assert list_pods(log) == ["shop/gone", "shop/web-1"]
    found = list(build_observations(log, {"shop/web-1": WEB}))
    assert [(each.client, each.address) for each in found] == [
        (WEB, "pod shop/web-1"),
        (None, "10.0.0.9"),
        (None, "pod shop/gone"),
    ]


def test_lines_are_those_that_the_access_log_writes():
    record = build_record(
        "http",
        started_at=1764444772.5,
        duration_s=0.001,
        client="10.1.2.3",
        entrypoint=5000,
        protocol="HTTP/1.1",
        service="shop/api:80",
        destination="shop/api:80/split/beta/api-v2",
        status=200,
        method=b"PUT",
        host=b"api.shop.maesh",
        target=b"/orders/1?x=%22",
    )
    (found,) = observe(build_renderer("json").render(record).encode())
    assert (found.service, found.destination) == ("shop/api:80", "shop/api:80/split/beta/api-v2")
    assert (found.method, found.path, found.first) == ("PUT", "/orders/1", "2025-11-29T19:32:52.500Z")
    assert found.address == "10.1.2.3"
