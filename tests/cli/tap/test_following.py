"""What a tap asks controllers for, and how it finds them."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from maesh_core.cli.tap import tap_stream
from maesh_core.cli.tap.following import build_query, follow_until_stopped
from maesh_core.errors import SettingsError, StartupError
from maesh_core.model.tap import TapError, TappedRecord
from maesh_core.settings.traffic import TapSettings

from .tap_server import SERVICES, build_record, render_record

PODS = "/api/v1/namespaces/maesh/pods"


class FakePrinter:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def show(self, item: Any) -> None:
        self.shown.append(item)

    def note(self, text: str) -> None:
        raise AssertionError(text)


class Cluster:
    """An API server with pods of controllers, each with the lines of its tap, after which it ends and is replaced."""

    def __init__(self) -> None:
        self.pods: dict[str, bytes] = {}
        self.replacements: dict[str, bytes] = {}
        self.targets: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.targets.append(self.path)
                self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + owner.answer(self.path))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing waits for the connections
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def answer(self, target: str) -> bytes:
        if target.startswith(f"{PODS}?"):
            items = [{"metadata": {"name": name}, "status": {"phase": "Running"}} for name in self.pods]
            return json.dumps({"items": items}).encode()
        name, _, path = target.removeprefix(f"{PODS}/").partition(":9000/proxy")
        if path == "/api/services":
            return json.dumps(SERVICES).encode()
        lines = self.pods[name]
        self.pods = self.replacements
        return lines

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TapSettings:
    monkeypatch.setattr(tap_stream, "PAUSE_S", 0)
    path = tmp_path / "kubeconfig"
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(json.dumps(document))
    return TapSettings(kubeconfig=str(path), limit=2)


def test_flags_become_parameters_and_invalid_ones_are_refused() -> None:
    settings = TapSettings(method="get", path="/a*", status="5xx", source="shop/web", limit=3)
    assert build_query(settings) == {
        "method": "GET",
        "path": "/a*",
        "status": "5xx",
        "source": "shop/web",
        "limit": "3",
    }
    assert build_query(TapSettings()) == {}
    with pytest.raises(SettingsError, match="--status must be like 404"):
        build_query(TapSettings(status="bad"))


async def test_the_controllers_are_found_again_when_one_is_lost(cluster: Cluster, settings: TapSettings) -> None:
    cluster.pods = {"c-1": render_record(path="/1"), "c-2": b""}
    cluster.replacements = {"c-3": render_record(path="/2")}
    printer = FakePrinter()
    await follow_until_stopped(settings, "web.shop", printer, asyncio.Event())
    first, gap, second = printer.shown
    assert (first, second) == (build_record(path="/1"), build_record(path="/2"))
    assert isinstance(gap, TapError)
    assert (gap.controller, gap.error.partition(" after")[0]) == ("c-1", "it has ended the tap; c-3 is followed")
    proxied = [target for target in cluster.targets if "/proxy/" in target]
    assert proxied == [
        f"{PODS}/c-1:9000/proxy/api/services",
        f"{PODS}/c-1:9000/proxy/api/tap?limit=2&service=shop/web",
        f"{PODS}/c-3:9000/proxy/api/tap?limit=1&service=shop/web",
    ]


async def test_the_loss_of_the_only_controller_is_the_error(cluster: Cluster, settings: TapSettings) -> None:
    cluster.pods = cluster.replacements = {"c-1": render_record()}
    printer = FakePrinter()
    with pytest.raises(StartupError, match=r"lost the controller at c-1: it has ended the tap$"):
        await follow_until_stopped(settings, None, printer, asyncio.Event())
    assert [type(item) for item in printer.shown] == [TappedRecord]
