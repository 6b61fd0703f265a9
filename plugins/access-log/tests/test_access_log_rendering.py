"""A record becomes exactly one line, in each format."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_access_log.rendering import Renderer, build_renderer, render_milliseconds
from maesh_access_log.templates import FIELDS, TEMPLATE_ONLY
from maesh_access_log.texts import LINE_LIMIT_BYTES, REMEMBERED_CLIENTS, REMEMBERED_PIECES, Texts

from maesh_core.model.traffic_record import TrafficRecord

from .json_reference import render_reference
from .records import STARTED_AT, FakeHeaders, build_connection, build_named_node, build_record

ALL_FIELDS = "\t".join(f"%{{{name}}}" for name in FIELDS).replace("\t", " | ") + " | %{request_User-Agent}"
ANY_TEXT = st.binary(max_size=6000)
ANY_NAME = st.text(max_size=6000, alphabet=st.characters(exclude_categories=["Cs"]))


def render_json(record, headers=()):
    return json.loads(build_renderer("json", headers).render(record))


def test_json_has_the_field_names_of_traefik():
    assert render_json(build_record()) == {
        "StartUTC": "2025-11-29T19:32:52.123Z",
        "Kind": "http",
        "ClientHost": "10.1.2.3",
        "ClientPod": "",
        "entryPointName": "5000",
        "RequestProtocol": "HTTP/1.1",
        "RequestMethod": "GET",
        "RequestHost": "cart.shop.maesh",
        "RequestPath": "/items?page=2",
        "RouterName": "shop/cart:80",
        "ServiceName": "shop/cart:80",
        "ServiceAddr": "10.1.2.9:8080",
        "Attempts": 1,
        "RetryAttempts": 0,
        "DownstreamStatus": 200,
        "GrpcStatus": None,
        "Reason": "",
        "RequestContentSize": 3,
        "DownstreamContentSize": 124,
        "Duration": 1250000,
        "OriginDuration": 1000000,
    }


def test_json_has_the_fields_of_the_table():
    record = build_record(server_path="encrypted", server_node="node-b", would_deny="no rule")
    assert list(render_json(record)) == [name for name in FIELDS if name not in TEMPLATE_ONLY]


def test_json_has_the_path_and_the_node_of_a_server_only_with_encryption():
    found = render_json(build_record(server_path="clear", server_node='"n"'))
    assert (found["ServerPath"], found["ServerNode"]) == ("clear", '"n"')
    assert "ServerNode" not in render_json(build_record())


def test_json_has_why_a_request_would_be_denied_only_in_audit_mode():
    assert render_json(build_record(would_deny='no "rule"'))["WouldDeny"] == 'no "rule"'
    assert "WouldDeny" not in render_json(build_record())


def test_a_refusal_has_its_reason_and_a_call_its_status():
    refused = render_json(build_record("refused", status=404, reason='no "such" host', attempts=0, upstream_s=None))
    assert (refused["Kind"], refused["DownstreamStatus"], refused["Reason"]) == ("refused", 404, 'no "such" host')
    assert (refused["Attempts"], refused["RetryAttempts"], refused["OriginDuration"]) == (0, 0, None)
    retried = render_json(build_record(attempts=3, grpc_status=0, destination="shop/cart-v2:80"))
    assert (retried["RetryAttempts"], retried["GrpcStatus"], retried["ServiceName"]) == (2, 0, "shop/cart-v2:80")


def test_json_adds_headers_that_the_request_has():
    record = build_record(headers=FakeHeaders(user_agent=b'a "b"\xff'))
    found = render_json(record, ("User-Agent", "X-Request-Id"))
    assert found["request_User-Agent"] == 'a "b"\\xff'
    assert "request_X-Request-Id" not in found
    assert "request_User-Agent" not in render_json(build_connection(), ("User-Agent",))


def render_lines(renderer, records) -> list[str]:
    failures: list[Exception] = []
    text, count = renderer.render_all(records, failures.append)
    lines: list[str] = text.splitlines(keepends=True)
    assert (failures, count) == ([], len(lines))
    return lines


def render_clients(node, records, form="json"):
    """Render records, and return the pods that they show."""
    lines = render_lines(build_renderer(form, (), node.pod_names), records)
    return [json.loads(line)["ClientPod"] if form == "json" else line.rstrip("\n") for line in lines]


def test_the_pod_of_a_client_is_named_and_is_empty_or_a_dash_if_it_is_not_known():
    node, records = build_named_node(), [build_record(), build_connection(), build_record(client="10.9.9.9")]
    assert render_clients(node, records) == ["shop/web-0", "shop/web-0", ""]
    assert render_clients(node, records, "%{ClientPod}") == ["shop/web-0", "shop/web-0", "-"]
    assert build_renderer("%{ClientPod}").render(build_record()) == "-\n"


@pytest.mark.parametrize("form", ["json", "%{ClientPod}"])
def test_a_name_that_changes_applies_to_traffic_that_begins_later(form):
    node = build_named_node()
    renderer = build_renderer(form, (), node.pod_names)

    def render(**fields):
        (line,) = render_lines(renderer, [build_record(**fields)])
        return json.loads(line)["ClientPod"] if form == "json" else line.rstrip("\n")

    assert render() == "shop/web-0"
    node.clock.now = STARTED_AT + 1
    node.set_pod_names({"10.1.2.3": "shop/web-1"})
    assert (render(), render(started_at=STARTED_AT + 1)) == ("shop/web-0", "shop/web-1")
    node.clock.now = STARTED_AT + 2
    node.set_pod_names({})
    assert render(started_at=STARTED_AT + 1) == "shop/web-1"
    assert render(started_at=STARTED_AT + 2) == ("" if form == "json" else "-")


def test_more_clients_than_are_remembered_are_named_too():
    node = build_named_node()
    records = [build_record(client=f"10.2.{number >> 8}.{number & 255}") for number in range(REMEMBERED_CLIENTS + 9)]
    assert set(render_clients(node, records)) == {""}
    assert render_clients(node, [*records, build_record()])[-1] == "shop/web-0"


def test_a_long_line_is_cut_and_names_the_pod():
    node = build_named_node(**{"10.0.0.1": f"shop/{'p' * 253}"})
    long: dict[str, Any] = {
        "method": b"\xff" * 5000,
        "host": b"\xff" * 5000,
        "target": b"\xff" * 5000,
        "reason": "x" * 5000,
    }
    assert render_clients(node, [build_record(**long)]) == ["shop/web-0"]
    (cut,) = render_clients(node, [build_record(client="10.0.0.1", **long)])
    assert cut == f"shop/{'p' * 56}..."


def test_the_common_format_is_that_of_traefik():
    render = build_renderer("common").render
    assert render(build_record()) == (
        '10.1.2.3 - - [29/Nov/2025:19:32:52 +0000] "GET /items?page=2 HTTP/1.1" 200 124 "http://shop/" "curl/8.0" 1 '
        '"shop/cart:80" "10.1.2.9:8080" 1ms "-"\n'
    )
    assert render(build_connection(reason="the client left")) == (
        '10.1.2.3 - - [29/Nov/2025:19:32:52 +0000] "- - TCP" 0 0 "-" "-" 1 '
        '"shop/db:5432" "10.1.2.9:5432" 2500ms "the client left"\n'
    )


def test_a_template_has_every_field():
    line = build_renderer(ALL_FIELDS, (), build_named_node().pod_names).render(
        build_record(reason="slow", attempts=2, grpc_status=14, server_path="local")
    )
    assert dict(zip((*FIELDS, "request_User-Agent"), line.rstrip("\n").split(" | "), strict=True)) == {
        "StartUTC": "2025-11-29T19:32:52.123Z",
        "ServerPath": "local",
        "ServerNode": "-",
        "Kind": "http",
        "ClientHost": "10.1.2.3",
        "ClientPod": "shop/web-0",
        "entryPointName": "5000",
        "RequestProtocol": "HTTP/1.1",
        "RequestMethod": "GET",
        "RequestHost": "cart.shop.maesh",
        "RequestPath": "/items?page=2",
        "RouterName": "shop/cart:80",
        "ServiceName": "shop/cart:80",
        "ServiceAddr": "10.1.2.9:8080",
        "Attempts": "2",
        "RetryAttempts": "1",
        "DownstreamStatus": "200",
        "GrpcStatus": "14",
        "Reason": "slow",
        "WouldDeny": "-",
        "RequestContentSize": "3",
        "DownstreamContentSize": "124",
        "Duration": "1250000",
        "OriginDuration": "1000000",
        "DurationMs": "1.250",
        "OriginDurationMs": "1.000",
        "request_User-Agent": "curl/8.0",
    }


def test_a_template_has_a_dash_for_a_missing_text():
    render = build_renderer(
        "%{RequestMethod}%{RequestPath}%{RequestHost}%{Reason}%{GrpcStatus}%{OriginDurationMs}"
    ).render
    assert render(build_connection(upstream_s=None)) == "------\n"
    assert (
        build_renderer("%{request_Cookie} %{OriginDuration} 100%%s").render(build_record(upstream_s=None))
        == "- - 100%s\n"
    )
    assert build_renderer("%{request_Cookie}").render(build_connection()) == "-\n"
    assert build_renderer("%{RouterName}%{ServiceName}%{ServiceAddr}").render(
        build_connection("refused", service="", destination="", server="")
    ) == ("---\n")


def test_a_template_of_json_is_json():
    render = build_renderer('{"p": "%{RequestPath}", "s": %{DownstreamStatus}}').render
    assert json.loads(render(build_record(target=b'/"\n\xff'))) == {"p": '/"\n\\xff', "s": 200}


@pytest.mark.parametrize("form", ["common", "json", "%{StartUTC}"])
def test_each_line_has_the_time_of_its_own_record(form):
    render = build_renderer(form).render
    first, second = render(build_record(started_at=0.0)), render(build_record(started_at=86400.9995))
    assert ("01/Jan/1970:00:00:00 +0000" if form == "common" else "1970-01-01T00:00:00.000Z") in first
    assert ("02/Jan/1970:00:00:00 +0000" if form == "common" else "1970-01-02T00:00:00.999Z") in second


def test_milliseconds_have_three_decimals():
    assert [render_milliseconds(each) for each in (None, 0.0, 0.0000014, 12.5)] == ["-", "0.000", "0.001", "12500.000"]


@given(method=ANY_TEXT, host=ANY_TEXT, target=ANY_TEXT, value=ANY_TEXT, reason=ANY_NAME, service=ANY_NAME)
def test_any_record_is_exactly_one_line_and_valid_json(method, host, target, value, reason, service):
    headers = FakeHeaders(user_agent=value, referer=value, x_id=value)
    record = build_record(
        method=method, host=host, target=target, headers=headers, reason=reason, service=service, destination=service
    )
    names = ("User-Agent", "Referer", "X-Id")
    for form in ("common", "json", ALL_FIELDS, f"ü{ALL_FIELDS}"):
        line = build_renderer(form, names if form == "json" else ()).render(record)
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert len(line.encode()) <= LINE_LIMIT_BYTES
        if form == "json":
            assert {f"request_{name}" for name in names} <= json.loads(line).keys()


TEXTS = st.sampled_from([b"", b"/", b"/items?page=2", b'/"\\', b"/\n\n", b"\xff" * 900, b"/" + b"a" * 3000]) | ANY_TEXT
NAMES = st.sampled_from(["", "shop/cart:80", "shop/cart:80/split/s", 'a "name"', "n" * 3000]) | st.text(max_size=20)
SIZES = st.sampled_from([0, 1, 999, 1000, 1001]) | st.integers(min_value=0, max_value=1 << 62)
SECONDS = st.floats(min_value=0, max_value=1e6)
RECORDS = st.builds(
    build_record,
    kind=st.sampled_from(["http", "tunnel", "tcp"]),
    started_at=st.sampled_from([STARTED_AT, STARTED_AT + 1]) | st.floats(min_value=0, max_value=4e9),
    duration_s=SECONDS,
    upstream_s=st.none() | SECONDS,
    client=st.sampled_from(["10.1.2.3", "10.9.9.9", "fd00::1"]),
    entrypoint=st.sampled_from([5000, 5001]),
    attempts=st.integers(min_value=0, max_value=3),
    status=st.sampled_from([0, 200, 503]),
    grpc_status=st.none() | st.integers(min_value=0, max_value=16),
    received_bytes=SIZES,
    sent_bytes=SIZES,
    headers=st.none() | st.builds(FakeHeaders, user_agent=TEXTS),
    **dict.fromkeys(("method", "host", "target"), TEXTS),
    **dict.fromkeys(("service", "destination", "server", "server_path", "server_node", "reason", "would_deny"), NAMES),
)


@pytest.mark.parametrize("headers", [(), ("User-Agent", "X-Id")])
@given(batches=st.lists(st.lists(RECORDS, max_size=6), max_size=3))
def test_records_that_are_rendered_together_have_the_lines_of_each_alone(headers, batches):
    pods = build_named_node().pod_names
    renderer = build_renderer("json", headers, pods)
    for batch in batches:
        expected = [render_reference(record, headers, pods.find) for record in batch]
        assert render_lines(renderer, batch) == expected
        assert [renderer.render(record) for record in batch] == expected


def test_records_of_one_place_and_outcome_have_the_lines_of_each_alone():
    renderer, first = build_renderer("json"), build_record()
    records = [
        TrafficRecord(first.place, first.outcome, STARTED_AT + each, 0.5, None, "10.1.2.3", b"/%d" % each, each, 0)
        for each in range(3)
    ]
    for _ in range(2):
        assert render_lines(renderer, records) == [render_reference(record) for record in records]


def test_more_places_than_are_remembered_are_rendered_too():
    records = [build_record(entrypoint=number) for number in range(REMEMBERED_PIECES + 9)]
    renderer = build_renderer("json")
    for _ in range(2):
        assert render_lines(renderer, records) == [render_reference(record) for record in records]


def test_a_record_that_has_no_line_of_json_affects_no_other():
    failures: list[Exception] = []
    endless = build_record(duration_s=float("inf"))
    text, count = build_renderer("json").render_all([build_record(), endless, build_record()], failures.append)
    assert (text, count) == (render_reference(build_record()) * 2, 2)
    assert [type(error) for error in failures] == [OverflowError]


def test_the_longest_template_and_the_most_headers_fit_into_a_line():
    long = b"\xff" * 5000
    record = build_record(method=long, host=long, target=long, headers=FakeHeaders(**dict.fromkeys("abcdefgh", long)))
    for form, headers in (("ü" * 500 + "%{RequestPath}" * 40, ()), ("json", tuple("abcdefgh") * 2)):
        assert len(build_renderer(form, headers).render(record).encode()) <= LINE_LIMIT_BYTES


def test_a_renderer_shows_its_memory():
    assert repr(Renderer(Texts)) == "<Renderer <Texts 0 remembered> <Texts 0 remembered>>"
