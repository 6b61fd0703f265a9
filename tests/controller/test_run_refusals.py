"""Settings and plugins that do not fit together stop the start of a controller, with one line."""

import socket

import pytest

from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import PluginError, StartupError
from maesh_core.plugin_system.hookspecs import OptionalSection
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.settings import ControllerSettings

from .rebuilds.engine_setup import FakeTransport
from .running_controller import FakePlugins, ListedSource, Page, start


async def test_a_section_that_does_not_exist_is_an_error_at_the_start(settings):
    plugins = FakePlugins(maesh_optional_sections=[OptionalSection("nodes")])
    with pytest.raises(PluginError, match="plugin of OptionalSection asks for section 'nodes', which does not exist"):
        await start(ControllerSettings(**settings), plugins)


async def test_two_transports_are_an_error_at_the_start(settings):
    plugins = FakePlugins(maesh_transport_rules=[FakeTransport(), FakeTransport()])
    with pytest.raises(PluginError, match="only one transport can be enabled, and there are those of plugin of"):
        await start(ControllerSettings(**settings), plugins)


async def test_a_taken_port_stops_the_start_with_one_line(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1:{port}.*--api-port"):
            await start(ControllerSettings(**{**settings, "api_port": port}))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"paths": ("/no/such/file.yaml",)}, "/no/such/file.yaml"),
        ({"paths": ()}, r"nothing to read .*--kubeconfig.*manifests \(PATH\)"),
        ({"kubeconfig": "k", "paths": ("/",)}, "give one of them"),
        ({"kubeconfig": "/no/such/config", "paths": ()}, "/no/such/config: no such file"),
        ({"kubeconfig": "/dev/null", "paths": ()}, "kubeconfig /dev/null"),
        ({"default_mode": "udp"}, "--default-mode udp.*http, tcp"),
        ({"http_port": 9950, "tcp_port": 10000}, "overlap"),
    ],
)
async def test_what_cannot_work_stops_the_start(settings, wrong, said):
    with pytest.raises(StartupError, match=said):
        await start(ControllerSettings(**{**settings, **wrong}))


@pytest.mark.parametrize(
    "hooks",
    [
        {"maesh_resource_kinds": [CORE_KINDS[0]]},
        {"maesh_sources": [ListedSource("manifests")]},
        {"maesh_traffic_types": [HttpTrafficType(PortRange(first=1, limit=1, is_exclusive=False))]},
    ],
)
async def test_two_claims_of_the_same_name_stop_the_start(settings, hooks):
    with pytest.raises(PluginError):
        await start(ControllerSettings(**settings), FakePlugins(**hooks))


async def test_two_pages_of_the_same_path_stop_the_start(settings):
    with pytest.raises(PluginError, match=r"^page '/' is claimed by both plugin of Page and plugin of Page$"):
        await start(ControllerSettings(**settings), FakePlugins(maesh_api_pages=[Page(), Page()]))
