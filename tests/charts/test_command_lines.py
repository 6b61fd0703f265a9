"""The command lines of the chart are ones that the program takes, and say what the values say."""

from pathlib import Path
from typing import Any, cast

import pytest
import typer.main
import yaml

from maesh_core.cli.app import build_application
from maesh_core.cli.options import collect_flags, normalise_arguments, resolve_settings
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import DEFAULT_ON, list_installed
from maesh_core.settings import CleanupSettings, ControllerSettings, InstalledPlugin, PrepareSettings, ProxySettings

CASES = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text())
STAMP = InstalledPlugin(
    name="stamp", distribution="acme-stamp", version="1", summary="", is_default=False, path="stamping:PLUGIN"
)
INSTALLED = (*list_installed(), STAMP)
COMMANDS = cast("Any", typer.main.get_command(build_application(INSTALLED))).commands
SETTINGS = {
    "controller": ControllerSettings,
    "proxy": ProxySettings,
    "prepare": PrepareSettings,
    "cleanup": CleanupSettings,
}
HALVES = ("controller", "proxy")


def list_containers(objects):
    for each in objects:
        if each["kind"] in ("Deployment", "DaemonSet", "Job"):
            yield from each["spec"]["template"]["spec"]["containers"]


def list_command_lines(objects):
    """List the arguments of each container of ours as the kubelet passes them on."""
    return [
        [expand(argument, {"NODE_NAME": "node-1"}) for argument in container["args"]]
        for container in list_containers(objects)
        if container["name"] != "coredns"
    ]


def expand(text, variables):
    """Do what Kubernetes does to arguments: `$(NAME)` is a variable if it is one, `$$` stands for `$`."""
    found = ""
    while text:
        before, dollar, text = text.partition("$")
        name, closing, rest = text.partition(")")
        if not dollar:
            return found + before
        if text.startswith("$"):
            found, text = f"{found}{before}$", text[1:]
        elif text.startswith("(") and closing and name[1:] in variables:
            found, text = f"{found}{before}{variables[name[1:]]}", rest
        else:
            found += f"{before}$"
    return found


def parse(arguments):
    """Parse a command line with the program's own parser."""
    name, *rest = arguments
    assert normalise_arguments(rest, collect_flags(INSTALLED)) == rest, "canonical spelling"
    return COMMANDS[name].make_context(name, rest).params


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_every_command_line_is_one_that_the_program_takes(values, render):
    lines = list_command_lines(render(values))
    assert sorted(arguments[0] for arguments in lines) == sorted(SETTINGS)
    for arguments in lines:
        settings = load(arguments)
        if arguments[0] in HALVES:
            ours = [plugin for plugin in settings.plugins if plugin is not STAMP]
            given = {name: raw for name, raw in settings.plugin_settings.items() if name != "stamp"}
            load_plugins(arguments[0], ours, given, origins=settings.origins)


def load(arguments):
    return resolve_settings(SETTINGS[arguments[0]], parse(arguments), INSTALLED)


def load_both(objects):
    found = {arguments[0]: arguments for arguments in list_command_lines(objects)}
    return load(found["controller"]), load(found["proxy"])


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_controller_and_proxies_have_the_same_plugins_with_the_same_settings(values, render):
    controller, proxy = load_both(render(values))
    shared = tuple(plugin for plugin in controller.plugins if plugin.name != "dashboard")  # it has one half
    if values.get("mtls", {}).get("proxies", True):
        assert shared == proxy.plugins
    else:
        assert tuple(plugin for plugin in shared if plugin.name != "mtls") == proxy.plugins
    for name in {*controller.plugin_settings, *proxy.plugin_settings} - {"mtls"}:
        of_proxy = proxy.plugin_settings[name]
        common = {key: text for key, text in of_proxy.items() if not key.startswith("redis-")}  # only proxies ask Redis
        assert controller.plugin_settings.get(name, {}) == common


def test_proxies_alone_know_redis_and_where_its_secrets_are(render):
    controller, proxy = load_both(render(CASES["redis-with-tls"]))
    assert "ratelimit" not in controller.plugin_settings
    folder = "/var/run/secrets/maesh-redis"
    assert proxy.plugin_settings["ratelimit"] == {
        "redis-url": "rediss://maesh@redis.shop:6380",
        "redis-password-file": f"{folder}/password",
        "redis-ca-file": f"{folder}/ca.crt",
        "redis-certificate-file": f"{folder}/tls.crt",
        "redis-key-file": f"{folder}/tls.key",
    }


def test_the_settings_of_encryption_are_those_of_each_part(render):
    controller, proxy = load_both(render(CASES["strict-encryption"]))
    assert controller.plugin_settings["mtls"] == {
        "mode": "strict",
        "domain": "mesh.example",
        "ca-secret": "maesh-ca",
        "trust-config-map": "maesh-trust",
        "certificate-lifetime": "90m",
        "port": "15443",
        "check-source": "true",
    }
    assert proxy.plugin_settings["mtls"] == {
        "token": "/var/run/secrets/maesh/ca-token",
        "trust": "/var/run/secrets/maesh/trust/bundle.pem",
        "port": "15443",
        "check-source": "true",
    }


def test_with_encryption_proxies_pull_over_tls_with_a_token(render):
    _, proxy = load_both(render(CASES["encryption"], namespace="traffic"))
    assert proxy.endpoint == "https://maesh-controller.traffic.svc:9000"
    assert proxy.root_ca_controller == "/var/run/secrets/maesh/trust/bundle.pem"
    assert proxy.controller_token == "/var/run/secrets/maesh/api-token"
    _, proxy = load_both(render(CASES["encryption-is-being-disabled"], namespace="traffic"))
    assert proxy.endpoint == "http://maesh-controller.traffic.svc:9000"
    assert (proxy.root_ca_controller, proxy.controller_token) == ("", "")


def test_what_is_open_in_clear_is_what_the_values_say(render):
    controller, proxy = load_both(render(CASES["encryption"]))
    assert (controller.api_open, controller.api_clear) == (("/metrics",), False)
    assert (proxy.admin_open, proxy.admin_clear) == (("/metrics",), False)
    controller, proxy = load_both(render({"mtls": {"enabled": True, "apiOpen": [], "adminOpen": [], "apiClear": True}}))
    assert (controller.api_open, controller.api_clear) == ((), True)
    assert (proxy.admin_open, proxy.admin_clear) == ((), True)
    controller, proxy = load_both(render(CASES["without-encryption"]))
    assert (controller.api_open, controller.api_clear, proxy.admin_open, proxy.admin_clear) == ((), False, (), False)


@pytest.mark.parametrize("name", sorted(DEFAULT_ON))
def test_a_plugin_can_be_switched_off(name, render):
    default, _ = load_both(render())
    without, _ = load_both(render({"plugins": {name: False}}))
    assert {plugin.name for plugin in default.plugins} - {plugin.name for plugin in without.plugins} == {name}


def test_controllers_ask_a_prometheus_that_a_value_names(render):
    default, _ = load_both(render())
    controller, _ = load_both(render(CASES["measured-by-prometheus"]))
    assert default.prometheus == ""
    assert controller.prometheus == "https://user:$(NODE_NAME)@prometheus.example:9090/base"


def test_the_dashboard_is_off_until_a_value_enables_it_for_the_controllers(render):
    default, _ = load_both(render())
    controller, proxy = load_both(render(CASES["dashboard"]))
    assert "dashboard" not in {plugin.name for plugin in default.plugins}
    assert "dashboard" in {plugin.name for plugin in controller.plugins} - {plugin.name for plugin in proxy.plugins}
    assert controller.api_hosts == ("mesh.example", "other.example")


@pytest.mark.parametrize(
    "values", [{"acl": True}, {"plugins": {"acl": True}}, {"acl": True, "plugins": {"acl": False}}]
)
def test_access_control_is_on_as_soon_as_one_of_its_values_says_so(values, render):
    default, _ = load_both(render())
    controller, proxy = load_both(render(values))
    assert "acl" not in {plugin.name for plugin in default.plugins}
    assert "acl" in {plugin.name for plugin in controller.plugins} & {plugin.name for plugin in proxy.plugins}


def test_the_access_log_is_off_unless_its_value_is_set(render):
    default, _ = load_both(render())
    _, proxy = load_both(render(CASES["access-log"]))
    assert "access-log" not in {plugin.name for plugin in default.plugins}
    assert "access-log" in {plugin.name for plugin in proxy.plugins}
    settings = {"format": '%{ClientHost} "%{RequestPath}"', "status": "400-599", "sample": "0.01"}
    assert proxy.plugin_settings["access-log"] == settings


def test_a_setting_arrives_as_it_was_written(render):
    controller, _ = load_both(render(CASES["odd-texts"]))
    assert controller.plugin_settings["stamp"] == {
        "prefix": CASES["odd-texts"]["settings"]["stamp"]["prefix"],
        "names": "yes,1e3,",
        "limit": "0",
    }


def test_a_large_number_has_no_exponent(render):
    controller, _ = load_both(render({"settings": {"udp": {"session-limit": 1_000_000}}}))
    assert controller.plugin_settings["udp"] == {"limit": "1000", "session-limit": "1000000"}


def test_settings_are_what_the_values_say(render):
    values = {
        **CASES["namespaces"],
        "limits": {"http": 5, "tcp": 6, "udp": 7, "ownHttp": 8},
        "logLevel": "info",
        "defaultMode": "tcp",
        "defaultEntrypoint": "own",
        "mesh": {"workers": 3, "drainSeconds": 25, "logFormat": "json"},
    }
    controller, proxy = load_both(render(values, name="other", namespace="traffic"))
    assert controller.namespace == "traffic"
    assert (controller.limit_http_port, controller.limit_tcp_port) == (5, 6)
    assert (controller.limit_own_http_port, controller.default_entrypoint) == (8, "own")
    assert controller.plugin_settings["udp"]["limit"] == "7"
    assert controller.watch_namespaces == ("shop", "1000000")
    assert controller.ignore_namespaces == ("legacy",)
    assert (controller.default_mode, controller.log_level, controller.log_format) == ("tcp", "info", "common")
    assert (proxy.workers, proxy.drain_timeout, proxy.log_level, proxy.log_format) == (3, 25.0, "info", "json")
    assert proxy.endpoint == "https://maesh-controller.traffic.svc:9000"
    assert proxy.node == "node-1"


def test_ports_are_those_of_the_services_and_the_probes(render):
    objects = {(each["kind"], each["metadata"]["name"]): each for each in render()}
    controller, proxy = load_both(objects.values())
    for name, service, port in (
        (("Deployment", "maesh-controller"), "maesh-controller", controller.api_port),
        (("DaemonSet", "maesh-mesh"), "maesh-mesh-api", proxy.admin_port),
    ):
        (container,) = objects[name]["spec"]["template"]["spec"]["containers"]
        assert container["ports"][0] == {"name": "api", "containerPort": port}
        (shown,) = objects["Service", service]["spec"]["ports"]
        assert (shown["port"], shown["targetPort"]) == (port, "api")
    assert (controller.api_host, proxy.admin_host, proxy.bind) == ("", "", "")


def test_hooks_and_controller_mean_the_same_domain_and_namespace(render):
    objects = render({"clusterDomain": "a.b"}, namespace="traffic")
    found = {arguments[0]: load(arguments) for arguments in list_command_lines(objects)}
    assert {found[name].namespace for name in ("controller", "prepare", "cleanup")} == {"traffic"}
    assert {found[name].cluster_domain for name in ("controller", "prepare")} == {"a.b"}
