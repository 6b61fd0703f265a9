"""`maesh dashboard`: an address for a browser, until a signal."""

import pytest

from maesh_testing.http_client import send_request

pytestmark = pytest.mark.integration


def test_the_dashboard_of_a_mesh_on_this_machine_is_shown_below_a_key(start_mesh, start_maesh):
    mesh = start_mesh()
    command = start_maesh("dashboard", "--endpoint", f"http://127.0.0.1:{mesh.api_port}")
    command.wait_until(lambda: "until Ctrl-C" in command.stdout, "the address")
    port, _, path = command.stdout.split()[4].removeprefix("http://127.0.0.1:").partition("/")
    assert "<title>Maesh</title>" in send_request(int(port), path=f"/{path}").text
    assert send_request(int(port), path=f"/{path}api/services").json[0]["name"] == "app"
    assert send_request(int(port), path="/api/services").status == 403
    assert command.stop() == 0


def test_without_a_controller_it_is_an_error(run_maesh):
    command = run_maesh("dashboard", "--endpoint", "http://127.0.0.1:1")
    assert command.status == 1
    assert "no dashboard: no controller answers at http://127.0.0.1:1" in command.stderr
