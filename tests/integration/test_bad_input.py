"""Bad input: a clear error where it belongs, and everything else still served."""

import pytest

pytestmark = pytest.mark.integration

BROKEN = """\
apiVersion: v1
kind: Namespace
metadata:
  name: fine
---
apiVersion: v1
kind: Service
metadata: {name: broken
"""


@pytest.fixture
def cart(manifests, build_service, start_upstream):
    """Put a healthy service `cart` into the manifests."""
    upstream = start_upstream("cart-1")
    manifests.write("cart.json", build_service("cart", upstream.port))
    return upstream


@pytest.mark.parametrize("command", ["up", "controller", "proxy"])
def test_unknown_flag_is_named_and_nothing_starts(run_maesh, manifests, command):
    ended = run_maesh(command, "--no-such-flag", *([manifests.path] if command != "proxy" else []))
    assert ended.status not in (0, None)
    assert "no-such-flag" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["up", "controller", "proxy"])
def test_unknown_plugin_stops_the_start_with_one_line_that_names_it(run_maesh, manifests, command):
    arguments = ["--endpoint", "http://127.0.0.1:1"] if command == "proxy" else [manifests.path]
    ended = run_maesh(command, *arguments, env={"MAESH_PLUGINS": "unheard-of"})
    assert ended.status == 1
    assert "unheard-of" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["up", "controller"])
def test_path_that_does_not_exist_stops_the_start_with_one_line_that_names_it(run_maesh, tmp_path, command):
    ended = run_maesh(command, tmp_path / "no-such-folder")
    assert ended.status == 1
    assert "no-such-folder" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("value", ["65536", "-1", "http"])
def test_port_that_is_none_is_refused_by_name(run_maesh, manifests, value):
    ended = run_maesh("up", f"--api-port={value}", manifests.path)
    assert ended.status not in (0, None)
    assert "api-port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_proxy_without_endpoint_says_that_it_needs_one(run_maesh):
    ended = run_maesh("proxy")
    assert ended.status not in (0, None)
    assert "endpoint" in ended.stderr


def test_broken_yaml_is_reported_with_its_place_and_the_rest_is_served(up, get, manifests, cart):
    manifests.write("broken.yaml", BROKEN)
    mesh = up(manifests.path)
    assert get(mesh.http_port, "cart.test.maesh").status == 200
    assert "broken.yaml document 2 line" in mesh.command.stderr


def test_file_that_turns_bad_keeps_its_last_good_content(up, get, manifests, cart):
    mesh = up(manifests.path)
    manifests.write("cart.json", '{"apiVersion": "v1", "kind": ')
    mesh.command.wait_until(lambda: "cart.json" in mesh.command.stderr, "a word about the broken file")
    assert get(mesh.http_port, "cart.test.maesh").status == 200


def test_duplicate_object_names_both_files_and_the_first_stays(up, get, manifests, cart, build_service, start_upstream):
    manifests.write("double.json", build_service("cart", start_upstream("impostor").port))
    mesh = up(manifests.path)
    assert get(mesh.http_port, "cart.test.maesh").text == "cart-1"
    assert any("cart.json" in line and "double.json" in line for line in mesh.command.stderr.splitlines())


@pytest.mark.parametrize(("name", "value"), [("traffic-type", "carrier-pigeon"), ("scheme", "gopher")])
def test_service_with_a_bad_annotation_is_closed_and_others_are_served(
    up, get, manifests, cart, build_service, start_upstream, name, value
):
    upstream = start_upstream("bad-1")
    annotations = {f"maesh.containo.us/{name}": value}
    manifests.write("bad.json", build_service("bad", upstream.port, annotations=annotations))
    mesh = up(manifests.path)
    assert get(mesh.http_port, "bad.test.maesh").status == 404
    assert get(mesh.http_port, "cart.test.maesh").status == 200
    assert upstream.count == 0
    services = {service["name"]: service for service in get(mesh.api_port, path="/api/services").json}
    assert any(value in error for error in services["bad"]["errors"])
    assert services["cart"]["errors"] == []


def test_annotation_that_no_plugin_claims_is_a_notice_and_the_service_is_served(
    up, get, manifests, build_service, start_upstream
):
    annotations = {"maesh.containo.us/no-such-thing": "1"}
    manifests.write("cart.json", build_service("cart", start_upstream("cart-1").port, annotations=annotations))
    mesh = up(manifests.path)
    assert get(mesh.http_port, "cart.test.maesh").status == 200
    (service,) = mesh.services
    assert service["errors"] == []
    assert any("no-such-thing" in notice for notice in service["notices"])


def test_service_without_a_usable_server_answers_503(up, get, manifests, build_service):
    manifests.write("idle.json", build_service("idle"))
    answer = get(up(manifests.path).http_port, "idle.test.maesh")
    assert answer.status == 503
    assert answer.headers["X-Maesh-Reason"]


def test_server_that_refuses_connections_answers_502(up, get, free_port, manifests, build_service):
    manifests.write("gone.json", build_service("gone", free_port()))
    assert get(up(manifests.path).http_port, "gone.test.maesh").status == 502
