"""The report of denials after a real proxy has ended and was started again."""

import pytest

from maesh_testing import build_pod, build_service, find_free_port, send_request, wait_until

pytestmark = pytest.mark.integration

WEB, BATCH, SERVER = "127.0.1.1", "127.0.1.2", "127.0.2.1"


class AuditedMesh:
    """A controller in audit mode, and one proxy, which can end and start again."""

    def __init__(self, start_maesh, upstream, manifests):
        self._start_maesh, self._manifests = start_maesh, manifests
        self._api_port, self._http_port, self._admin_port = find_free_port(), find_free_port(), find_free_port()
        pods = [build_pod("web", WEB, "web"), build_pod("batch", BATCH, "batch")]
        manifests.write("app.json", build_service("app", [(upstream.address, upstream.port)], account="server"))
        manifests.write("pods.json", pods)
        ports = ("--api-host", "127.0.0.1", "--api-port", self._api_port, "--http-port", self._http_port)
        start_maesh("controller", "--acl", "--set", "acl.mode=audit", *ports, manifests.path)
        self.endpoint = f"http://127.0.0.1:{self._api_port}"
        self.start_proxy()

    def start_proxy(self):
        """Start the proxy of the node, and wait until it has a configuration."""
        admin = ("--admin-host", "127.0.0.1", "--admin-port", self._admin_port, "--workers", 1)
        self._proxy = self._start_maesh("proxy", "--node", "a", "--endpoint", self.endpoint, "--acl", *admin)
        self._proxy.wait_until(lambda: send_request(self._admin_port, path="/ready").status == 200, "a configuration")

    def restart_proxy(self):
        """End the proxy, and start another one of the same node."""
        assert self._proxy.stop() == 0
        self.start_proxy()

    def call(self, client, path):
        """Send a request of a pod; it must pass."""
        answer = send_request(self._http_port, path=path, headers={"Host": "app.test.maesh"}, client=client)
        assert answer.status == 200

    def wait_for_report(self, counts):
        """Wait for a complete report of so many denials by account and path, and return it."""

        def read():
            report = send_request(self._api_port, path="/api/acl/denials").json
            found = {(each["client"]["serviceAccount"], each["path"]): each["count"] for each in report["denials"]}
            return report["complete"] and found == counts and report

        return wait_until(read, f"a report of {counts}")


@pytest.fixture
def mesh(start_maesh, start_upstream, manifests):
    """Start the mesh."""
    return AuditedMesh(start_maesh, start_upstream("app", SERVER), manifests)


def test_what_a_proxy_had_reported_before_its_restart_stays_in_the_report_and_in_the_rules(mesh, run_maesh):
    for path in ("/orders", "/orders", "/items"):
        mesh.call(WEB, path)
    before = mesh.wait_for_report({("web", "/orders"): 2, ("web", "/items"): 1})
    mesh.restart_proxy()
    mesh.call(WEB, "/orders")
    mesh.call(BATCH, "/reports")
    after = mesh.wait_for_report({("web", "/orders"): 3, ("web", "/items"): 1, ("batch", "/reports"): 1})
    assert before["keptSince"] == ""
    assert after["keptSince"] == before["since"] <= after["since"]
    shown = run_maesh("acl", "report", "--endpoint", mesh.endpoint)
    assert shown.status == 3
    assert f"have ended or did not answer had recorded since {after['keptSince']}" in shown.stdout
    suggested = run_maesh("acl", "suggest", "--endpoint", mesh.endpoint)
    assert suggested.status == 0
    assert [path in suggested.stdout for path in ("/orders$", "/items$", "/reports$")] == [True, True, True]
