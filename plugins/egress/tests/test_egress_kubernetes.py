"""Outside servers in a cluster: the real commands against an API server, with a shadow service for each Service."""

import pytest

from maesh_testing import find_free_port, send_request

from .test_egress_mesh import ALLOW, NAME, build_external, resolve_with

pytestmark = pytest.mark.integration


def test_an_external_name_of_a_cluster_has_a_shadow_service_and_is_carried(
    api_server, start_maesh, start_upstream, dns_server, tmp_path
):
    outside = start_upstream("outside")
    dns_server.set(NAME, "127.0.0.1")
    for name in ("maesh", "test"):
        api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    api_server.apply(build_external("api", NAME, outside.port))
    kubeconfig = api_server.write_kubeconfig(tmp_path / "kubeconfig")
    http, api, admin = find_free_port(), find_free_port(), find_free_port()
    controller = start_maesh(
        *("controller", "--kubeconfig", kubeconfig, "--api-host", "127.0.0.1"),
        *("--api-port", api, "--http-port", http, *ALLOW),
    )
    controller.wait_until(lambda: send_request(api, path="/api/status/readiness").status == 200, "readiness")
    proxy = start_maesh(
        *("proxy", "--endpoint", f"http://127.0.0.1:{api}", "--bind", "127.0.0.1"),
        *("--admin-host", "127.0.0.1", "--admin-port", admin, *ALLOW, *resolve_with(dns_server)),
    )
    proxy.wait_until(lambda: send_request(admin, path="/ready").status == 200, "readiness")
    assert send_request(http, "api.test.maesh", "/").text == "outside"
    shadow = controller.wait_until(
        lambda: api_server.find("services", "maesh-api-6d61657368-test", "maesh"), "a shadow service"
    )
    assert [(port["port"], port["targetPort"]) for port in shadow["spec"]["ports"]] == [(80, http)]
    assert "externalName" not in shadow["spec"]
    (status,) = [each for each in send_request(admin, path="/status").json["services"].items() if each[0] == "egress"]
    assert status == ("egress", {"names": "1"})
