"""What `maesh up` prints when it is ready."""

import json
import sys
from functools import partial

from maesh_core.cli.local_mesh.report import build_top_command, render_report, render_report_line
from maesh_core.cli.tables import render_table
from maesh_core.model.configuration import PortStatus
from maesh_core.model.messages import ObjectReport, ServiceReport
from maesh_core.plugin_system.conditions import MeshCondition


def make_report(name="cart", *entrypoints, traffic_type="http", errors=(), notices=(), port_name="p", **port_fields):
    ports = tuple(
        PortStatus(name=f"{port_name}{index}", port=80 + index, protocol="TCP", entrypoint=entrypoint, **port_fields)
        for index, entrypoint in enumerate(entrypoints)
    )
    return ServiceReport(
        namespace="shop",
        name=name,
        host=f"{name}.shop.maesh",
        traffic_type=traffic_type,
        ports=ports,
        errors=errors,
        notices=notices,
    )


def render(*reports, objects=()):
    return render_report(reports, host="127.0.0.1", api_url="http://127.0.0.1:9000", objects=objects)


def test_services_stand_in_a_table_with_a_request_that_works_and_the_way_out():
    assert render(make_report("cart", 5000, 5001)) == (
        "SERVICE    HOST             TYPE  PORT  ENTRYPOINT\n"
        "shop/cart  cart.shop.maesh  http  80    127.0.0.1:5000\n"
        "shop/cart  cart.shop.maesh  http  81    127.0.0.1:5001\n"
        "\n"
        "Try:\n"
        "  curl -H 'Host: cart.shop.maesh' http://127.0.0.1:5000/\n"
        "\n"
        "Press Ctrl-C to stop."
    )


def test_what_plugins_say_about_the_mesh_is_shown_before_other_remarks():
    audited = MeshCondition(id="access-enforced", title="it denies", hint="", problems=["nothing is denied"])
    text = render_report(
        [make_report("cart", 5000, notices=("odd",))], host="h", api_url="http://h:9000", conditions=[audited]
    )
    assert "\n\nwarning: nothing is denied\n\nnotice: shop/cart: odd\n" in text


def test_curl_line_is_for_the_first_service_that_can_answer_it():
    text = render(
        make_report("broken", 5000, errors=("bad",)),
        make_report("stream", 10000, traffic_type="tcp"),
        make_report("portless"),
        make_report("left-out", None),
        make_report("fine", None, 5001),
    )
    assert "curl -H 'Host: fine.shop.maesh' http://127.0.0.1:5001/" in text
    assert text.count("curl") == 1


def test_schemes_have_a_column_if_one_is_not_http():
    text = render(
        make_report("call", 5000, scheme="h2c"),
        make_report("cart", 5000, None),
        make_report("stream", 10000, traffic_type="tcp"),
        make_report("portless"),
    )
    table = [line.split() for line in text.partition("\n\n")[0].splitlines()]
    assert table == [
        ["SERVICE", "HOST", "TYPE", "PORT", "SCHEME", "ENTRYPOINT"],
        ["shop/call", "call.shop.maesh", "http", "80", "h2c", "127.0.0.1:5000"],
        ["shop/cart", "cart.shop.maesh", "http", "80", "http", "127.0.0.1:5000"],
        ["shop/cart", "cart.shop.maesh", "http", "81", "-", "-"],
        ["shop/stream", "stream.shop.maesh", "tcp", "80", "-", "127.0.0.1:10000"],
        ["shop/portless", "portless.shop.maesh", "http", "-", "-", "-"],
    ]


def test_a_service_of_http2_is_called_with_prior_knowledge():
    line = "curl --http2-prior-knowledge -H 'Host: call.shop.maesh' http://127.0.0.1:5000/\n"
    assert line in render(make_report("call", 5000, scheme="h2c"))
    assert "curl -H 'Host: call.shop.maesh' http://127.0.0.1:5000/" in render(make_report("call", 5000, scheme="https"))


def test_a_service_of_grpc_is_called_with_a_grpc_client():
    line = "Try:\n  a gRPC client without TLS: address 127.0.0.1:5000, authority call.shop.maesh\n"
    assert line in render(make_report("call", 5000, scheme="h2c", app_protocol="grpc"))
    assert line in render(make_report("call", 5000, scheme="https", port_name="grpc-"))
    assert "curl" in render(make_report("call", 5000, app_protocol="grpc")), "the annotation says http"


def test_a_port_without_a_server_is_reported_and_not_used_in_the_curl_line():
    text = render(make_report("idle", 5000, unserved="not ready: idle-0"), make_report("busy", 5000))
    assert "curl -H 'Host: busy.shop.maesh'" in text
    assert "notice: shop/idle: port 80 has no ready server: not ready: idle-0\n" in text
    assert "shop/busy: port" not in text


def test_no_curl_line_when_nothing_can_answer_it():
    assert "curl" not in render(make_report("stream", 10000, traffic_type="tcp"))


def test_errors_and_notices_stand_below_the_services_errors_first():
    text = render(make_report("a", 5000, notices=("odd",)), make_report("b", traffic_type=None, errors=("bad",)))
    assert text.endswith("error: shop/b: bad\nnotice: shop/a: odd\n\nPress Ctrl-C to stop.")


def test_objects_and_files_have_lines_but_what_a_service_shows_is_said_once():
    shown = make_report("web", 5000, errors=("bad",), notices=("TrafficSplit canary: backend v2 is left out",))
    split = partial(ObjectReport, kind="TrafficSplit", namespace="shop")
    text = render(
        shown,
        objects=[
            ObjectReport(kind="Service", namespace="shop", name="web", errors=("bad",), notices=shown.notices),
            split(name="canary", errors=("backend v2 is left out", "another")),
            split(name="lost", errors=("there is no service wep in namespace shop; did you mean web?",)),
            ObjectReport(kind="Service", namespace="shop", name="twin", origin="a.yaml document 2", errors=("bad",)),
            ObjectReport(origin="manifests", notices=("no file in it ends in .yaml",)),
        ],
    )
    assert text.split("\n\n")[-2].splitlines() == [
        "error: shop/web: bad",
        "error: TrafficSplit shop/canary: another",
        "error: TrafficSplit shop/lost: there is no service wep in namespace shop; did you mean web?",
        "error: Service shop/twin: bad",
        "notice: shop/web: TrafficSplit canary: backend v2 is left out",
        "notice: manifests: no file in it ends in .yaml",
    ]


def test_without_services_it_is_said_what_is_wrong():
    text = render(objects=[ObjectReport(origin="manifests", notices=("odd",))])
    assert text == "No services in these manifests.\n\nnotice: manifests: odd\n\nPress Ctrl-C to stop."


def test_long_lists_are_cut_and_say_where_the_rest_is():
    text = render(*(make_report(f"s{number}", 5000, notices=("odd",)) for number in range(100)))
    assert text.count("... and 70 more: http://127.0.0.1:9000/api/services") == 2
    assert "70 more: http://127.0.0.1:9000/api/services and http://127.0.0.1:9000/api/objects" in text
    assert len(text.splitlines()) < 80


def test_a_report_without_services_says_so():
    assert render() == "No services in these manifests.\n\nPress Ctrl-C to stop."


def test_json_is_one_line_in_the_shape_of_the_api():
    line = render_report_line([make_report("cart", 5000, None, notices=("a\nb",))])
    assert "\n" not in line
    assert json.loads(line) == [
        {
            "namespace": "shop",
            "name": "cart",
            "host": "cart.shop.maesh",
            "trafficType": "http",
            "ports": [
                {"name": "p0", "port": 80, "protocol": "TCP", "entrypoint": 5000},
                {"name": "p1", "port": 81, "protocol": "TCP"},
            ],
            "errors": [],
            "notices": ["a\nb"],
        }
    ]


def test_table_without_rows_is_its_head():
    assert render_table(("A", "LONG"), []) == "A  LONG"


def test_the_command_that_shows_the_traffic_can_be_copied(monkeypatch, tmp_path):
    command = tmp_path / "bin" / "maesh"
    command.parent.mkdir()
    command.write_text("")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(command.with_name("python")))
    monkeypatch.chdir(tmp_path)
    url = "http://127.0.0.1:9001"
    monkeypatch.setenv("PATH", "/nowhere")
    assert build_top_command(url) == "bin/maesh top --endpoint http://127.0.0.1:9001"
    monkeypatch.setenv("PATH", str(command.parent))
    assert build_top_command(url) == "maesh top --endpoint http://127.0.0.1:9001"
    text = render_report([], host="127.0.0.1", api_url=url, top_command="maesh top")
    assert "Look at it in a terminal:\n  maesh top\n" in text


def test_a_web_page_is_named_where_there_is_one():
    text = render_report([], host="127.0.0.1", api_url="http://127.0.0.1:9000", page_url="http://127.0.0.1:9000/")
    assert "Look at it in a browser:\n  http://127.0.0.1:9000/\n" in text
    assert "browser" not in render_report([], host="127.0.0.1", api_url="http://127.0.0.1:9000")
