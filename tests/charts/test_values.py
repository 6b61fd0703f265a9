"""The chart's values: each is documented, checked and used."""

import importlib.util

import jsonschema
import pytest
import yaml

from maesh_core.plugin_system.metadata import DEFAULT_ON

from .chart_values import CHARTS, DEFAULTS, ENCRYPTION, POD_SCRAPE, RULE, SCHEMA, SCRAPE, build_values


def load_documenting():
    spec = importlib.util.spec_from_file_location("maesh_chart_document_values", CHARTS / "document_values.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCUMENTING = load_documenting()
VALUES = DOCUMENTING.list_values((CHARTS / "maesh" / "values.yaml").read_text())
RULES = {"metrics": {"prometheusRule": {"enabled": True}}}
DASHBOARDS = {"metrics": {"dashboards": {"enabled": True}}}
KUBE_DNS = {"kubedns": True}
CERT_MANAGER = {"mtls": {"enabled": True, "authority": {"source": "cert-manager", "issuer": {"name": "root"}}}}
POLICIES = {"networkPolicy": {"enabled": True}}
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
STAMP = {"plugins": {"extra": ["stamp"]}}
TOLERATION = {"operator": "Exists"}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
AFFINITY = {"nodeAffinity": {}}

REDIS = {"redis": {"url": "rediss://redis.example"}}

# Another value for each path, and what else must be set for it to matter.
CHANGES = {
    "image.name": "other",
    "image.tag": "v9",
    "image.pullPolicy": "Always",
    "image.pullSecret": "secret",
    "acl": True,
    "clusterDomain": "cluster.example",
    "kubedns": True,
    "defaultMode": "tcp",
    "defaultEntrypoint": "own",
    "logLevel": "debug",
    "logFormat": "json",
    **{f"limits.{name}": 7 for name in ("http", "tcp", "udp", "ownHttp")},
    **{f"plugins.{name}": False for name in sorted(DEFAULT_ON)},
    "plugins.acl": True,
    "plugins.accessLog": True,
    "plugins.otel": True,
    "plugins.fault": True,
    "plugins.compress": True,
    "plugins.jwt": True,
    "plugins.egress": True,
    "plugins.extra": ["stamp"],
    "redis.url": "redis://redis.example:6379/0",
    "redis.passwordSecret": ("redis", REDIS),
    "redis.caSecret": ("redis-ca", REDIS),
    "redis.certificateSecret": ("redis-client", REDIS),
    "mtls.enabled": False,
    "mtls.mode": ("strict", ENCRYPTION),
    "mtls.proxies": (False, {"mtls": {"enabled": True, "apiClear": True}}),
    "mtls.apiClear": (True, ENCRYPTION),
    "mtls.apiOpen": ([], ENCRYPTION),
    "mtls.adminOpen": ([], ENCRYPTION),
    "mtls.port": (15443, ENCRYPTION),
    "mtls.trustDomain": ("mesh.example", ENCRYPTION),
    "mtls.certificateLifetime": ("2h", ENCRYPTION),
    "mtls.tokenSeconds": (600, ENCRYPTION),
    "mtls.authority.secret": ("ours", ENCRYPTION),
    "mtls.authority.source": ("existing", ENCRYPTION),
    "mtls.authority.issuer.name": ("other", CERT_MANAGER),
    "mtls.authority.issuer.kind": ("Issuer", CERT_MANAGER),
    "mtls.authority.issuer.group": ("issuers.example", CERT_MANAGER),
    "mtls.authority.hours": (8760, CERT_MANAGER),
    "mtls.trustConfigMap": ("ours", ENCRYPTION),
    "networkPolicy.enabled": True,
    "networkPolicy.apiFrom": ([PEER], POLICIES),
    "networkPolicy.metricsFrom": ([PEER], POLICIES),
    "dashboard.enabled": True,
    "dashboard.hosts": ["mesh.example"],
    "settings": {"udp.session-timeout": "30s"},
    "dns.deployments": ["dns"],
    "dns.configMaps": ["dns"],
    "podSecurityContext.runAsNonRoot": False,
    "podSecurityContext.runAsUser": 1000,
    "podSecurityContext.runAsGroup": 1000,
    "podSecurityContext.seccompProfile.type": "Unconfined",
    "securityContext.allowPrivilegeEscalation": True,
    "securityContext.readOnlyRootFilesystem": False,
    "securityContext.capabilities.drop": [],
    "controller.replicas": 3,
    "controller.ignoreNamespaces": ["a"],
    "controller.watchNamespaces": ["a"],
    "controller.topologySpreadConstraints": [SPREAD],
    "controller.extraRules": [RULE],
    "mesh.defaultMode": "tcp",
    "mesh.workers": 2,
    "mesh.drainSeconds": 30,
    "metrics.prometheus.enabled": False,
    "metrics.prometheus.url": "http://prometheus.monitoring:9090",
    "metrics.authorization.secret": ("token", {**ENCRYPTION, **SCRAPE}),
    "metrics.authorization.key": (
        "bearer",
        {**ENCRYPTION, "metrics": {**SCRAPE["metrics"], "authorization": {"secret": "a"}}},
    ),
    "metrics.serviceMonitor.enabled": True,
    "metrics.serviceMonitor.interval": ("10s", SCRAPE),
    "metrics.serviceMonitor.labels": ({"a": "b"}, SCRAPE),
    "metrics.podMonitor.enabled": True,
    "metrics.podMonitor.interval": ("10s", POD_SCRAPE),
    "metrics.podMonitor.labels": ({"a": "b"}, POD_SCRAPE),
    "metrics.prometheusRule.enabled": True,
    "metrics.prometheusRule.labels": ({"a": "b"}, RULES),
    "metrics.prometheusRule.runbookUrl": ("https://docs.example/operations.html", RULES),
    "metrics.dashboards.enabled": True,
    "metrics.dashboards.namespace": ("monitoring", DASHBOARDS),
    "metrics.dashboards.labels.grafana_dashboard": ("yes", DASHBOARDS),
    "metrics.dashboards.annotations": ({"grafana_folder": "Mesh"}, DASHBOARDS),
    "coredns.image.name": ("other", KUBE_DNS),
    "coredns.image.tag": ("1.12.0", KUBE_DNS),
    "coredns.replicas": (3, KUBE_DNS),
}
for part in ("controller", "mesh"):
    CHANGES |= {
        f"{part}.logLevel": "debug",
        f"{part}.logFormat": "json",
        f"{part}.nodeSelector": {"a": "b"},
        f"{part}.tolerations": [TOLERATION],
        f"{part}.affinity": AFFINITY,
        f"{part}.priorityClassName": "high",
        f"{part}.podAnnotations": {"a": "b"},
        f"{part}.podLabels": {"a": "b"},
        f"{part}.env": [{"name": "A", "value": "b"}],
        f"{part}.envFrom": [{"configMapRef": {"name": "a"}}],
        f"{part}.additionalArguments": ["--a"],
        **{f"{part}.resources.{kind}.{what}": "7" for kind in ("request", "limit") for what in ("mem", "cpu")},
    }


def test_the_defaults_pass_their_schema_which_is_one(chart):
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    chart.validate_schema(DEFAULTS)
    assert chart.schema == SCHEMA


def test_the_page_has_every_value_with_its_default_and_meaning():
    page = (CHARTS / "README.md").read_text()
    assert (
        DOCUMENTING.replace_table(page, DOCUMENTING.render_table((CHARTS / "maesh/values.yaml").read_text())) == page
    ), "run: python charts/document_values.py"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.path)
def test_every_value_has_words_of_its_own(value):
    assert value.text.endswith("."), value


def test_every_value_is_tried():
    assert {value.path for value in VALUES} == CHANGES.keys()


@pytest.mark.parametrize("path", CHANGES)
def test_every_value_is_used(path, render):
    change = CHANGES[path]
    value, base = change if isinstance(change, tuple) else (change, {})
    assert render(base) != render(build_values(path, value, base))


def test_values_of_maesh_1_2_s_own_chart_that_are_no_defaults_of_dropped_parts_still_work(render):
    values = {
        "image": {"name": "mesh", "pullPolicy": "Always", "tag": "v1", "pullSecret": "x"},
        "controller": {
            "resources": {"limit": {"mem": "100Mi", "cpu": "200m"}, "request": {"mem": "50Mi", "cpu": "100m"}},
            "logLevel": "info",
            "ignoreNamespaces": ["a", "b"],
            "nodeSelector": {},
            "tolerations": [],
            "affinity": {},
        },
        "kubedns": False,
        "clusterDomain": "cluster.local",
        "mesh": {"defaultMode": "tcp", "logLevel": "warn", "nodeSelector": {}, "tolerations": []},
        "metrics": {"prometheus": {"enabled": True}},
        "acl": True,
        "limits": {"http": 10, "tcp": 25, "udp": 25},
    }
    objects = {(each["kind"], each["metadata"]["name"]): each for each in render(values)}
    (container,) = objects["Deployment", "maesh-controller"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "mesh:v1"
    assert container["resources"]["limits"] == {"memory": "100Mi", "cpu": "200m"}
    assert {"--log-level=info", "--ignore-namespaces=a,b", "--default-mode=tcp", "--acl"} <= set(container["args"])
    assert {"--limit-http-port=10", "--limit-tcp-port=25", "--set=udp.limit=25"} <= set(container["args"])
    (container,) = objects["DaemonSet", "maesh-mesh"]["spec"]["template"]["spec"]["containers"]
    assert {"--log-level=warn", "--acl", "--set=udp.limit=25"} <= set(container["args"])


def test_the_image_is_of_the_projects_version():
    project = (CHARTS.parent / "pyproject.toml").read_text()
    metadata = yaml.safe_load((CHARTS / "maesh" / "Chart.yaml").read_text())
    assert f'version = "{metadata["appVersion"]}"' in project
    assert metadata["version"] == "2.0.0"
