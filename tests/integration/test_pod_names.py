"""The names of clients' pods, from a controller to the log of a proxy: over restarts, and without the plugin."""

import json

import pytest

from maesh_testing import build_pod

pytestmark = pytest.mark.integration

CLIENT = "127.0.0.7"
JSON = ("--access-log", "--set", "access-log.format=json")


@pytest.fixture
def site(tmp_path, start_upstream, build_service, start_proxy, free_port, get):
    """A folder of manifests with a service and a pod, and a proxy with an access log, which has no controller yet."""
    return Site(tmp_path, build_service("app", start_upstream("app").port), start_proxy, free_port, get)


class Site:
    def __init__(self, tmp_path, service, start_proxy, free_port, get):
        self.folder, self.log, self.cache = tmp_path / "manifests", tmp_path / "log", tmp_path / "cache"
        self.folder.mkdir()
        self._service, self._start_proxy, self._get = service, start_proxy, get
        self.http_port, self.api_port, self._asked = free_port(), free_port(), 0
        self.set_pods(build_pod("web-0", CLIENT, "default"))

    def set_pods(self, *pods):
        fresh = self.folder.parent / "fresh"
        fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [*self._service, *pods]}))
        fresh.rename(self.folder / "all.json")

    def start_proxy(self):
        options = ("--set", f"access-log.file={self.log}", "--configuration-cache", str(self.cache))
        return self._start_proxy(self.api_port, *JSON, *options)[0]

    def find_pod(self):
        """Send a request, and return the pod in its record, which is there within a quarter of a second."""
        self._asked += 1
        path = f"/{self._asked}"
        assert self._get(self.http_port, "app.test.maesh", path, client=CLIENT).status == 200
        while True:
            lines = self.log.read_text().splitlines() if self.log.exists() else []
            for record in map(json.loads, lines):
                if record["RequestPath"] == path:
                    return record["ClientPod"]


def test_names_follow_restarts_of_the_controller_and_need_its_plugin(site, start_controller):
    def start(*arguments):
        ports = ("--http-port", site.http_port, "--limit-http-port", 1)
        return start_controller(*ports, *arguments, site.folder, port=site.api_port)[0]

    controller = start(*JSON)
    proxy = site.start_proxy()
    assert site.find_pod() == "test/web-0"
    proxy.wait_until(site.cache.exists, "the cached configuration")
    assert "app.test.maesh" in site.cache.read_text()
    assert "test/web-0" not in site.cache.read_text()

    assert controller.stop() == 0
    assert site.find_pod() == "test/web-0", "the proxy keeps what it had"
    site.set_pods(build_pod("web-1", CLIENT, "default"))
    controller = start(*JSON)
    proxy.wait_until(lambda: site.find_pod() == "test/web-1", "the name that the next controller sends")

    assert controller.stop() == 0
    start()
    proxy.wait_until(lambda: site.find_pod() == "", "a record without a name")
