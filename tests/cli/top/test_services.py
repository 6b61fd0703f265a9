"""Services are judged, filtered, sorted and selected by what was measured."""

import pytest

from maesh_core.cli.top.services import (
    SORT_ORDER,
    Severity,
    compute_rate,
    describe_trouble,
    filter_services,
    rate_service,
    select_services,
    sort_services,
)
from maesh_core.errors import StartupError
from maesh_core.model.traffic import Latency, ServerTraffic, Window

from .sample import build_failing, build_report, build_service, build_window


def rate(service):
    return rate_service(service, service.last)


def list_names(services):
    return [each.name for each in services]


def test_failing_requests_errors_and_servers_that_are_all_aside_are_bad():
    assert rate(build_service("a", window=build_window(1.0, 0.94))) is Severity.BAD
    assert rate(build_service("a", errors=("x",))) is Severity.BAD
    aside = ServerTraffic(server="10.0.0.1:80", is_set_aside=True)
    assert rate(build_service("a", servers=(aside,))) is Severity.BAD
    assert rate(build_service("a", servers=(aside, ServerTraffic(server="10.0.0.2:80")))) is Severity.WARN


@pytest.mark.parametrize("changes", [{"limited": 1}, {"denied": 1}, {"retries": 100}, {"success": 0.99}])
def test_refusals_and_many_retries_are_a_warning(changes):
    assert rate(build_service("a", window=build_window(**changes))) is Severity.WARN
    assert rate(build_service("a", open_breakers=1)) is Severity.WARN


def test_a_few_retries_are_good():
    assert rate(build_service("a", window=build_window(retries=6))) is Severity.GOOD


def test_the_trouble_of_a_service_names_causes_first():
    service = build_failing()
    assert describe_trouble(service, service.last) == (
        "the annotation maesh.io/retry-attempts is not a number: many; 1 of 2 servers set aside; "
        "1 open circuit breaker; 480 x no server answered; 7 x denied"
    )
    failing = build_service("a", window=build_window(10.0, 0.5))
    assert describe_trouble(failing, failing.last) == "300 x 5xx"
    window = build_window(10.0, 0.5, codes={"502": 200, "503": 100, "200": 300}, reasons={"no server answered": 100})
    assert describe_trouble(failing, window) == "100 x no server answered; 200 x 502, 100 x 503"
    servers = (
        ServerTraffic(server="10.0.0.1:80", last=build_window(5.0, 1.0)),
        ServerTraffic(server="10.0.0.2:80", pod="shop/a-2", last=build_window(5.0, 0.0)),
    )
    one_fails = build_service("a", window=build_window(10.0, 0.5), servers=servers)
    assert describe_trouble(one_fails, one_fails.last) == "300 x 5xx from shop/a-2"
    all_fail = build_service("a", window=build_window(10.0, 0.5), servers=servers[1:])
    assert describe_trouble(all_fail, all_fail.last) == "300 x 5xx"
    calls = build_window(10.0, 0.5, codes={"2xx": 600}, grpc={"0": 290, "5": 10, "13": 200, "14": 100})
    assert describe_trouble(failing, calls) == "200 x gRPC INTERNAL, 100 x gRPC UNAVAILABLE"
    good = build_service("a")
    assert describe_trouble(good, good.last) == ""


def test_the_rate_of_tcp_is_that_of_connections():
    assert compute_rate(Window(seconds=60.0, connections=120)) == 2.0
    assert compute_rate(Window(connections=120)) == 0.0


def test_failing_services_are_first_by_default():
    services = build_report().services
    assert list_names(sort_services(services, "health"))[:3] == ["checkout", "limited", "quiet-6"]
    assert list_names(sort_services(services, "health", is_reversed=True))[-1] == "checkout"


@pytest.mark.parametrize(
    ("column", "first"),
    [("service", "checkout"), ("rate", "checkout"), ("success", "checkout"), ("limited", "limited"), ("p99", "slow")],
)
def test_rows_are_sorted_by_a_column(column, first):
    slow = build_service("slow", window=build_window(total=Latency(p50=0.1, p95=1.0, p99=2.0)))
    assert list_names(sort_services((*build_report().services, slow), column))[0] == first


@pytest.mark.parametrize("column", SORT_ORDER)
def test_services_without_traffic_do_not_disturb(column):
    assert len(sort_services(build_report().services, column)) == 10


def test_a_filter_has_words_in_any_case():
    services = build_report().services
    assert list_names(filter_services(services, "SHOP quiet-3")) == ["quiet-3"]
    assert len(filter_services(services, "")) == 10


@pytest.mark.parametrize(
    "text", ["db", "db.shop", "shop/db", "db@shop", "db.shop.maesh", "db.shop.maesh:5432", "shop/db:5432", "db:5432"]
)
def test_a_service_is_named_in_any_usual_form(text):
    assert list_names(select_services(build_report().services, text)) == ["db"]


def test_a_name_of_nothing_or_of_several_services_is_an_error():
    with pytest.raises(StartupError, match="no service 'chekout'; did you mean checkout"):
        select_services(build_report().services, "chekout")
    with pytest.raises(StartupError, match=r"'shop/chekout'; did you mean shop/checkout\?$"):
        select_services(build_report().services, "shop/chekout")
    with pytest.raises(StartupError, match="'xyzzy'; maesh top --once lists all services"):
        select_services(build_report().services, "xyzzy")
    with pytest.raises(StartupError, match="several services have the name 'web': a/web, b/web"):
        select_services([build_service("web", "a"), build_service("web", "b")], "web")
    assert len(select_services([build_service("web"), build_service("web", port="81")], "web")) == 2
