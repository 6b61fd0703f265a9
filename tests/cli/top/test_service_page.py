"""One service opened: everything that is known about its traffic."""

import msgspec

from maesh_core.cli.top.service_page import build_page
from maesh_core.cli.top.spans import join_plain
from maesh_core.model.traffic import BranchTraffic, EdgeTraffic, RuleTraffic, ServerTraffic, Window

from .sample import build_failing, build_service, build_window


def render(service, *, is_total=False):
    return [join_plain(line) for line in build_page(service, is_total=is_total)]


def test_a_failing_service_shows_where_it_fails():
    assert render(build_failing())[7:] == [
        "",
        "ERRORS",
        "the annotation maesh.io/retry-attempts is not a number: many",
        "",
        "BRANCH               WEIGHT  SHARE    RATE  SUCCESS    p50   p95   p99",
        "shop/checkout-v1:80     90%    95%  38.0/s     100%  2.1ms  12ms  34ms",
        "shop/checkout-v2:80     10%     5%  2.00/s       0%  2.1ms  12ms  34ms",
        "",
        "SERVER       POD              NODE    STATE        RATE  SUCCESS    p50   p95   p99  RECEIVED    SENT  STATUS",
        "10.0.0.1:80  shop/checkout-1  node-1  in use     38.0/s     100%  1.9ms  11ms  31ms   12.0 kB  3.4 MB"
        "  2xx 2280",
        "10.0.0.2:80  shop/checkout-2  -       set aside  2.00/s       0%  1.9ms  11ms  31ms   12.0 kB  3.4 MB"
        "  5xx 120",
        "",
        "CALLER               ACCOUNT   PODS    RATE  SUCCESS    p50   p95   p99  DENIED",
        "Deployment/web@shop  web@shop     0  40.0/s      80%  2.1ms  12ms  34ms       7",
        "other                -            0  1.00/s     100%  2.1ms  12ms  34ms       7",
        "",
        "COUNT  ANSWER OF THE MESH",
        "  480  no server answered",
        "    7  denied",
        "",
        "NOTICES",
        "the annotation maesh.io/blue has no effect",
    ]


def test_a_service_without_traffic_has_nothing_measured():
    lines = render(build_service("idle", window=Window()))
    assert lines[:2] == ["shop/idle:80", "rate 0/s   success -"]
    assert lines[-3:] == ["no server is known", "", "no caller was seen"]


def test_the_status_numbers_of_grpc_and_connections_are_shown():
    lines = render(build_service("a", window=build_window(grpc={"0": 5, "14": 1}, connections=3)), is_total=True)
    assert "gRPC status: 0 5   14 1" in lines
    assert "connections 3" in lines


def test_servers_branches_rules_and_callers_of_tcp_have_connections_bytes_and_failures():
    windows = [Window(seconds=60.0, rate=rate, connections=int(60 * rate), sent_bytes=2000) for rate in (3.0, 1.0)]
    failing = msgspec.structs.replace(windows[1], reasons={"no connection": 7})
    service = build_service(
        *("db", "shop", "5432"),
        traffic_type="tcp",
        window=Window(seconds=60.0, rate=4.0, connections=240),
        branches=(
            BranchTraffic(destination="shop/db-v1:5432", weight=0.5, last=windows[0]),
            BranchTraffic(destination="shop/db-v2:5432", weight=0.5, last=windows[1]),
        ),
        servers=(
            ServerTraffic(server="10.0.0.1:5432", last=windows[0]),
            ServerTraffic(server="10.0.0.2:5432", last=failing),
        ),
        rules=(RuleTraffic(rule="rule/db/0", last=failing), RuleTraffic(rule="consumer/lab/db/0", last=windows[0])),
        callers=(EdgeTraffic(caller="Deployment/web@shop", service="shop/db:5432", last=windows[0]),),
    )
    assert render(service)[4:19] == [
        "",
        "BRANCH           WEIGHT  SHARE  CONNECTIONS/S  RECEIVED    SENT",
        "shop/db-v1:5432     50%    75%         3.00/s       0 B  2.0 kB",
        "shop/db-v2:5432     50%    25%         1.00/s       0 B  2.0 kB",
        "",
        "RULE               CONNECTIONS/S  RECEIVED    SENT  FAILURES",
        "rule/db/0                 1.00/s       0 B  2.0 kB  no connection 7",
        "consumer/lab/db/0         3.00/s       0 B  2.0 kB  -",
        "",
        "SERVER         POD  NODE  STATE   CONNECTIONS/S  RECEIVED    SENT  STATUS",
        "10.0.0.1:5432  -    -     in use         3.00/s       0 B  2.0 kB  -",
        "10.0.0.2:5432  -    -     in use         1.00/s       0 B  2.0 kB  no connection 7",
        "",
        "CALLER               ACCOUNT  PODS  CONNECTIONS/S  DENIED",
        "Deployment/web@shop  -           0         3.00/s       0",
    ]


def test_the_callers_of_udp_have_sessions():
    callers = (EdgeTraffic(caller="10.0.0.9", service="shop/dns:53", last=Window(seconds=60.0, rate=2.0)),)
    lines = render(build_service("dns", port="53", traffic_type="udp", callers=callers))
    assert lines[-2:] == [
        "CALLER    ACCOUNT  PODS  SESSIONS/S  DENIED",
        "10.0.0.9  -           0      2.00/s       0",
    ]


def test_a_service_that_is_its_own_only_branch_has_no_table_of_branches():
    service = build_service("a", branches=(BranchTraffic(destination="shop/a:80", weight=1.0),))
    assert not any(line.startswith("BRANCH") for line in render(service))


def test_servers_to_which_a_split_sends_nothing_are_no_branch():
    idle, used = Window(), build_window()
    branches = [BranchTraffic(destination="shop/a:80", weight=0.0, total=each) for each in (idle, used)]
    other = BranchTraffic(destination="shop/b:80", weight=1.0)
    shown = [render(build_service("a", branches=(each, other))) for each in branches]
    assert [any(line.startswith("shop/a:80  ") for line in lines) for lines in shown] == [False, True]


def test_a_branch_that_requests_choose_has_no_weight():
    service = build_service("a", branches=(BranchTraffic(destination="shop/b:80", weight=None),))
    assert any(line.split() == ["shop/b:80", "-", "-", "0/s", "-", "-", "-", "-"] for line in render(service))


def test_the_rules_of_a_service_are_a_table_of_their_own():
    rules = (RuleTraffic(rule="rule/web/0", last=build_window(5.0, 0.5)), RuleTraffic(rule="rule/web/1"))
    lines = render(build_service("a", rules=rules))
    place = next(index for index, line in enumerate(lines) if line.startswith("RULE"))
    assert lines[place : place + 3] == [
        "RULE          RATE  SUCCESS    p50   p95   p99",
        "rule/web/0  5.00/s      50%  2.1ms  12ms  34ms",
        "rule/web/1     0/s        -      -     -     -",
    ]
