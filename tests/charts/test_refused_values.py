"""Values that are wrong, gone or contradict each other are refused by a text that says what to do instead."""

import helm_python
import jsonschema
import pytest

from maesh_core.controller.traffic.prometheus_client import HttpPrometheusClient
from maesh_core.errors import SettingsError

from .chart_values import CHARTS, DEFAULTS, ENCRYPTION, POD_SCRAPE, RULE, SCHEMA, SCRAPE, build_values, list_nodes


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://prometheus", "http://", "http://a b", "http://a/?query=x"])
def test_the_schema_refuses_a_url_that_the_controller_would_refuse(url):
    with pytest.raises(SettingsError):
        HttpPrometheusClient(url)
    with pytest.raises(jsonschema.ValidationError, match="does not match"):
        jsonschema.validate(build_values("metrics.prometheus.url", url, DEFAULTS), SCHEMA)


def test_the_schema_refuses_what_it_does_not_know_at_every_level_that_is_the_charts():
    free = {"podSecurityContext", "securityContext", "global", "objects", "env", "affinity"}
    for path, node in list_nodes(SCHEMA):
        if "object" in str(node.get("type", "")) and path.split(".")[-1] not in free and path != "env":
            assert "additionalProperties" in node, path


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("replicas", 2, "additional properties 'replicas' not allowed"),
        ("controller.replica", 2, "at '/controller': additional properties 'replica' not allowed"),
        ("mesh.worker", 2, "at '/mesh': additional properties 'worker' not allowed"),
        ("plugins.stamp", True, "at '/plugins': additional properties 'stamp' not allowed"),
        (
            "controller.resources.requests",
            {},
            "at '/controller/resources': additional properties 'requests' not allowed",
        ),
        ("controller.replicas", 0, "at '/controller/replicas': minimum"),
        ("controller.replicas", "two", "at '/controller/replicas': got string, want integer"),
        ("limits.http", 0, "at '/limits/http'"),
        ("logLevel", "loud", "value must be one of 'trace', 'debug', 'info'"),
        ("logFormat", "xml", "at '/logFormat'"),
        ("acl", "yes", "at '/acl': got string, want boolean"),
        ("controller.ignoreNamespaces", "legacy", "at '/controller/ignoreNamespaces': got string, want"),
        ("controller.ignoreNamespaces", ["a,b"], "at '/controller/ignoreNamespaces/0'"),
        ("controller.podLabels", {"app": "x"}, "invalid propertyName 'app'"),
        ("controller.additionalArguments", ["controller"], "at '/controller/additionalArguments/0'"),
        ("controller.extraRules", [{**RULE, "verbs": ["*"]}], "at '/controller/extraRules/0/verbs/0'"),
        ("controller.extraRules", [{**RULE, "resources": ["*"]}], "at '/controller/extraRules/0/resources/0'"),
        ("plugins.extra", ["acl"], "at '/plugins/extra/0'"),
        ("plugins.extra", ["access-log"], "at '/plugins/extra/0'"),
        ("plugins.extra", ["no-acl"], "at '/plugins/extra/0'"),
        ("plugins.extra", ["Stamp"], "at '/plugins/extra/0'"),
        ("plugins.extra", ["mtls"], "at '/plugins/extra/0'"),
        ("mtls.mode", "always", "at '/mtls/mode'"),
        ("mtls.port", 443, "at '/mtls/port'"),
        ("mtls.tokenSeconds", 60, "at '/mtls/tokenSeconds'"),
        ("mtls.certificateLifetime", "a day", "at '/mtls/certificateLifetime'"),
        ("mtls.certificateLifetime", "1h30m", "at '/mtls/certificateLifetime'"),
        ("mtls.authority.source", "vault", "at '/mtls/authority/source'"),
        ("mtls.authority.hours", 24, "at '/mtls/authority/hours'"),
        ("mtls.apiOpen", ["metrics"], "at '/mtls/apiOpen/0'"),
        ("mesh.podLabels", {"maesh.io/tunnel": "1"}, "invalid propertyName 'maesh.io/tunnel'"),
        ("networkPolicy.apiFrom", [{}], "at '/networkPolicy/apiFrom/0'"),
        ("networkPolicy.apiFrom", [{"cidr": "10.0.0.0/8"}], "at '/networkPolicy/apiFrom/0'"),
        ("settings", {"udp": 1}, "at '/settings/udp'"),
        ("settings", {"udp.port": {"a": 1}}, "at '/settings/udp.port'"),
        ("controller.resources.limit.mem", "much", "at '/controller/resources/limit/mem'"),
        ("clusterDomain", "a b", "at '/clusterDomain'"),
    ],
)
def test_a_value_that_is_misspelt_or_wrong_is_refused_by_its_place(path, value, text, render):
    with pytest.raises(helm_python.HelmValuesError) as refusal:
        render(build_values(path, value))
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("path", "value", "place", "advice"),
    [
        ("tracing.deploy", False, "/tracing", "remove it, the mesh creates no spans"),
        ("tracing.jaeger.enabled", True, "/tracing", "remove it"),
        (
            "metrics.deploy",
            False,
            "/metrics/deploy",
            "install your own Prometheus, and set metrics.serviceMonitor.enabled",
        ),
        ("metrics.image.grafana", "grafana:6", "/metrics/image", "remove it, the chart installs neither"),
        ("metrics.prometheus.storageClassName", "fast", "/metrics/prometheus/storageClassName", "remove it"),
        ("metrics.prometheus.resources.limit.mem", "1Gi", "/metrics/prometheus/resources", "remove it"),
        ("metrics.grafana", {}, "/metrics/grafana", "install your own Grafana, and set metrics.dashboards"),
        (
            "metrics.datadog.address",
            "127.0.0.1:8125",
            "/metrics/datadog",
            "configure the OpenMetrics check of your agent",
        ),
        (
            "metrics.influxdb.address",
            "localhost:8089",
            "/metrics/influxdb",
            "configure the Prometheus input of Telegraf",
        ),
        ("metrics.statsd.address", "127.0.0.1:8125", "/metrics/statsd", "configure a Prometheus collector to read"),
        ("mesh.pollInterval", "1s", "/mesh/pollInterval", "remove it, proxies receive changes immediately"),
        ("mesh.pollTimeout", "1s", "/mesh/pollTimeout", "remove it, proxies receive changes immediately"),
        ("mesh.forwardingTimeouts.dialTimeout", "30s", "/mesh/forwardingTimeouts", "set mesh.additionalArguments to"),
        ("mesh.image.name", "traefik", "/mesh/image", "set image.name and image.tag"),
        ("controller.image.tag", "v1.1.0", "/controller/image", "set image.name and image.tag"),
        ("controller.logging.debug", True, "/controller/logging", "set controller.logLevel"),
        ("mesh.logging", "INFO", "/mesh/logging", "set mesh.logLevel"),
        ("smi.enable", True, "/smi", "set acl instead of smi.enable"),
        ("smi.deploycrds", False, "/smi", "install with --skip-crds"),
        ("proxy.logLevel", "info", "/proxy", "use mesh, which configures the proxies"),
    ],
)
def test_what_is_gone_is_refused_by_the_schema_with_what_to_do_instead(path, value, place, advice, render):
    with pytest.raises(helm_python.HelmValuesError) as refusal:
        render(build_values(path, value))
    (problem,) = [line for line in str(refusal.value).splitlines() if line.startswith("- ")]
    assert problem.startswith(f"- at '{place}': value must be ")
    assert "GONE: " in problem
    assert advice in problem


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("redis", {"passwordSecret": "redis"}, "redis has Secrets, but no redis.url"),
        ("redis", {"url": "redis://a", "caSecret": "b"}, "redis.url must begin with rediss://"),
        ("settings", {"acl.a": 1}, "settings.acl.a belongs to a disabled plugin: set plugins.acl"),
        ("settings", {"stamp": {"a": 1}}, "settings.stamp belongs to a disabled plugin"),
        ("settings", {"udp.limit": 5}, "settings contains udp.limit: set limits.udp instead"),
        ("settings", {"udp": {"limit": 5}}, "settings contains udp.limit: set limits.udp instead"),
        ("metrics", {**SCRAPE["metrics"], **POD_SCRAPE["metrics"]}, "would count everything twice: enable only one"),
    ],
)
def test_what_contradicts_itself_is_refused_by_what_to_do_instead(path, value, text, render):
    with pytest.raises(helm_python.HelmRenderError) as refusal:
        render(build_values(path, value))
    (problem,) = [line for line in str(refusal.value).splitlines() if line.startswith("  - ")]
    assert text in problem


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"mtls": {"enabled": False}, "settings": {"mtls.check-source": True}},
            "settings.mtls.check-source belongs to a disabled plugin: set mtls.enabled",
        ),
        ({**ENCRYPTION, "settings": {"mtls.mode": "off"}}, "settings contains mtls.mode: set mtls.mode instead"),
        (
            {**ENCRYPTION, "settings": {"mtls": {"ca-secret": "x"}}},
            "settings contains mtls.ca-secret: set mtls.authority.secret instead",
        ),
        (
            {**ENCRYPTION, "settings": {"mtls.tokens": "x"}},
            "settings contains mtls.tokens, which is for meshes without Kubernetes",
        ),
        (
            {"mtls": {"enabled": True, "mode": "strict", "proxies": False, "apiClear": True}},
            "set mtls.mode to permissive before",
        ),
        (
            {"mtls": {"enabled": True, "proxies": False}},
            "mtls.proxies is false, so the proxies pull in clear: set mtls.apiClear",
        ),
        ({"mtls": {"enabled": True, "authority": {"source": "cert-manager"}}}, "set mtls.authority.issuer.name"),
        (
            {"mtls": {"enabled": True, "authority": {"issuer": {"name": "x"}}}},
            "set mtls.authority.source to cert-manager",
        ),
        ({"mtls": {"enabled": True, "port": 8080}}, "mtls.port 8080 is a port of the mesh itself"),
        ({"mtls": {"enabled": True, "port": 9000}}, "mtls.port 9000 is a port of the mesh itself"),
        ({**ENCRYPTION, "limits": {"tcp": 5009}}, "mtls.port 15008 is one of the entrypoints 10000 to 15008"),
        ({"mtls": {"enabled": True, "port": 5099}}, "mtls.port 5099 is one of the entrypoints 5000 to 5099"),
        (
            {"mtls": {"enabled": True, "apiOpen": []}, **SCRAPE},
            "set metrics.authorization.secret, or add /metrics to mtls.apiOpen",
        ),
        (
            {"mtls": {"enabled": True, "adminOpen": []}, **POD_SCRAPE},
            "add /metrics to mtls.adminOpen, or disable the monitors",
        ),
    ],
)
def test_encryption_that_cannot_work_is_refused_by_what_to_do_instead(values, text, render):
    with pytest.raises(helm_python.HelmRenderError) as refusal:
        render(values)
    (problem,) = [line for line in str(refusal.value).splitlines() if line.startswith("  - ")]
    assert text in problem


@pytest.mark.parametrize("name", ["mtls", "networkPolicy"])
def test_a_cluster_that_is_too_old_for_a_value_is_refused(name, capfd):
    # With a version, the chart can only be linted here; Helm's linter prints a refusal, and goes on.
    for version, is_refused in (("v1.21.14", True), ("v1.22.0", False)):
        helm_python.lint(CHARTS / "maesh", {name: {"enabled": True}}, kube_version=version)
        assert (f"{name}.enabled needs Kubernetes 1.22" in capfd.readouterr().err) is is_refused


def test_a_tunnels_port_beside_the_entrypoints_can_be_used(render):
    assert render({**ENCRYPTION, "limits": {"tcp": 5008}})


def test_a_default_mode_that_no_plugin_carries_is_refused(render):
    for values in ({"defaultMode": "udp"}, {"mesh": {"defaultMode": "udp"}}):
        with pytest.raises(helm_python.HelmRenderError, match=r"defaultMode is udp: set plugins\.udp"):
            render({**values, "plugins": {"udp": False}})


def test_all_errors_are_reported_at_once(render):
    with pytest.raises(helm_python.HelmValuesError) as refusal:
        render({"tracing": {}, "smi": {"enable": True}, "mesh": {"logging": "INFO"}, "logLevel": "loud"})
    assert str(refusal.value).count("GONE: ") == 3
    assert "/logLevel" in str(refusal.value)
    with pytest.raises(helm_python.HelmRenderError) as failure:
        render({"settings": {"acl.a": 1, "udp.limit": 5}, "metrics": {**SCRAPE["metrics"], **POD_SCRAPE["metrics"]}})
    assert str(failure.value).count("\n  - ") == 3


def test_every_value_that_is_gone_is_in_the_upgrade_guide():
    dropped = [path.lstrip(".") for path, node in list_nodes(SCHEMA) if str(node.get("const", "")).startswith("GONE: ")]
    guide = (CHARTS / "README.md").read_text().partition("## Upgrading")[2].partition("\n## ")[0]
    assert len(dropped) == 18
    assert [path for path in dropped if f"`{path}`" not in guide] == []


def test_the_namespace_that_the_mesh_leaves_alone_is_none_for_it(render):
    with pytest.raises(helm_python.HelmRenderError, match="install the chart into another namespace"):
        render(namespace="kube-system")
