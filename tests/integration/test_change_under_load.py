"""Changes while requests flow: none may fail, and each takes effect."""

import signal

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def blue_and_green(start_upstream):
    return start_upstream("blue"), start_upstream("green")


def test_edited_manifest_moves_traffic_and_no_request_fails(up, start_load, manifests, build_service, blue_and_green):
    blue, green = blue_and_green
    manifests.write("cart.json", build_service("cart", blue.port))
    load = start_load(up(manifests.path).http_port, "cart.test.maesh")
    for old, new in ((blue, green), (green, blue)) * 3:
        manifests.write("cart.json", build_service("cart", new.port))
        load.wait_until_seen(new.name)
        before = old.count
        load.wait_for(100)
        assert old.count <= before + 8, "the old server still gets requests"
    assert load.stop() == []


def test_other_services_come_and_go_without_failed_requests(
    up, start_load, get, manifests, build_service, blue_and_green
):
    blue, green = blue_and_green
    manifests.write("cart.json", build_service("cart", blue.port))
    mesh = up(manifests.path)
    load = start_load(mesh.http_port, "cart.test.maesh")
    for number in range(5):
        file = manifests.write("other.json", build_service(f"other-{number}", green.port))
        load.wait_for(50)
        file.unlink()
    load.wait_for(50)
    assert load.stop() == []
    assert set(load.seen) == {"blue"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_controller_stopped_and_started_again_under_load_fails_no_request(
    start_controller, start_proxy, start_load, free_port, manifests, build_service, blue_and_green, number
):
    blue, green = blue_and_green
    http_port = free_port()
    manifests.write("cart.json", build_service("cart", blue.port))
    controller, api_port = start_controller(manifests.path, "--http-port", http_port)
    start_proxy(api_port)
    load = start_load(http_port, "cart.test.maesh")
    assert controller.stop(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    load.wait_for(200)
    manifests.write("cart.json", build_service("cart", green.port))
    start_controller(manifests.path, "--http-port", http_port, port=api_port)
    load.wait_until_seen("green")
    load.wait_for(100)
    assert load.stop() == []


def test_a_proxy_that_is_terminated_finishes_requests_in_progress(
    start_controller, start_proxy, start_load, get, free_port, manifests, build_service, blue_and_green, wait_until
):
    blue, _ = blue_and_green
    http_port = free_port()
    manifests.write("cart.json", build_service("cart", blue.port))
    _, api_port = start_controller(manifests.path, "--http-port", http_port)
    proxy, admin_port = start_proxy(api_port)
    assert get(admin_port, path="/ping").status == 200
    assert get(http_port, "cart.test.maesh").status == 200
    assert proxy.stop(signal.SIGTERM) == 0
    assert get(http_port, "cart.test.maesh").status == 0
