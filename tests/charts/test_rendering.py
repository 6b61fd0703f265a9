"""Whatever values are given, what comes out are objects that Kubernetes takes."""

import functools
from pathlib import Path

import helm_python
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils as kubernetes_schemas

CHART = Path(__file__).resolve().parents[2] / "charts" / "maesh"
CASES = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text())
KUBERNETES = ("1.25", "1.29", "1.33", "1.37")
MONITORS = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}
OPERATOR_KINDS = {*MONITORS, "PrometheusRule", "Certificate"}
WORKLOADS = ("Deployment", "DaemonSet", "Job")


def name_object(each):
    return each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_lint_finds_nothing_but_that_there_is_no_icon(values):
    report = helm_python.lint(CHART, values, strict=True, kube_version="v1.33.0")
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"] if each["severity"] > 0] == ["icon is recommended"]


@pytest.fixture(scope="module")
def schemas():
    """Read the schemas of each version of Kubernetes once, which takes longer than to use them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_schemas, "schema_contents", functools.cache(kubernetes_schemas.schema_contents))
        yield


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
@pytest.mark.usefixtures("schemas")
@pytest.mark.slow
def test_every_object_is_valid_in_every_version(values, render):
    objects = [each for each in render(values) if each["kind"] not in OPERATOR_KINDS]
    for version in KUBERNETES:
        for each in objects:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_no_two_objects_have_one_name(values, render):
    names = [name_object(each) for each in render(values)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_every_object_is_the_meshs_whatever_the_release_is_called(values, render):
    for each in render(values, name="other", namespace="traffic"):
        labels = each["metadata"]["labels"]
        assert labels["app"] == "maesh"
        assert labels["component"]
        assert each["metadata"].get("namespace", "traffic") in ("traffic", "kube-system")


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_every_selector_finds_the_pods_of_one_workload(values, render):
    objects = render(values)
    pods = {name_object(each): each["spec"]["template"]["metadata"]["labels"] for each in objects if is_workload(each)}
    for each in objects:
        selector = find_selector(each)
        if selector is not None:
            found = [name for name, labels in pods.items() if selector.items() <= labels.items()]
            assert len(found) == 1, name_object(each)
            assert not is_workload(each) or found == [name_object(each)]


def is_workload(each):
    return each["kind"] in WORKLOADS


def find_selector(each):
    selector = each.get("spec", {}).get("selector")
    if selector is None or each["kind"] == "ServiceMonitor":
        return None
    return selector.get("matchLabels", selector)


def test_shadow_services_find_proxies_and_nothing_else(render):
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in render() if is_workload(each)]
    assert [labels["app"] for labels in pods if labels["component"] == "maesh-mesh"] == ["maesh"]


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_every_port_that_is_named_is_a_containers(values, render):
    objects = render(values)
    workloads = [each for each in objects if is_workload(each)]
    for each in workloads:
        for container in each["spec"]["template"]["spec"]["containers"]:
            names = {port["name"] for port in container.get("ports", ())}
            for probe in ("readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port", 0)
                assert isinstance(port, int) or port in names
    for service in (each for each in objects if each["kind"] == "Service"):
        pod = find_pod(service, workloads)
        names = {port["name"] for container in pod["containers"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            assert isinstance(port.get("targetPort", port["port"]), int) or port["targetPort"] in names


def find_pod(service, workloads):
    templates = [each["spec"]["template"] for each in workloads]
    selector = service["spec"]["selector"].items()
    return next(each["spec"] for each in templates if selector <= each["metadata"]["labels"].items())


def render_monitors(kind, render):
    """Render the monitors of a kind, by their name, with all other objects."""
    objects = render(CASES["service-monitor" if kind == "ServiceMonitor" else "pod-monitor"], name="a", namespace="b")
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}, objects


@pytest.mark.parametrize("kind", MONITORS)
def test_controllers_and_proxies_have_a_monitor_each(kind, render):
    monitors, objects = render_monitors(kind, render)
    assert monitors.keys() == {"maesh-mesh", "maesh-controller"}
    assert [each["kind"] for each in objects if each["kind"] in OPERATOR_KINDS] == [kind, kind]
    for each in monitors.values():
        assert each["apiVersion"] == "monitoring.coreos.com/v1"
        assert set(each["spec"]) == {"namespaceSelector", "selector", MONITORS[kind]}
        assert each["spec"]["namespaceSelector"] == {"matchNames": ["b"]}


@pytest.mark.parametrize("kind", MONITORS)
@pytest.mark.parametrize(("name", "workload"), [("maesh-mesh", "DaemonSet"), ("maesh-controller", "Deployment")])
def test_a_monitor_names_a_port_and_labels_that_are_there(kind, name, workload, render):
    monitors, objects = render_monitors(kind, render)
    selector = monitors[name]["spec"]["selector"]["matchLabels"].items()
    (endpoint,) = monitors[name]["spec"][MONITORS[kind]]
    assert endpoint["path"] == "/metrics"
    (template,) = [each["spec"]["template"] for each in objects if each["kind"] == workload]
    if kind == "ServiceMonitor":
        services = [each for each in objects if each["kind"] == "Service"]
        (service,) = [each for each in services if selector <= each["metadata"]["labels"].items()]
        assert [endpoint["port"]] == [port["name"] for port in service["spec"]["ports"]]
        assert endpoint["interval"] == "30s"
    else:
        assert selector <= template["metadata"]["labels"].items()
        assert endpoint["port"] in {port["name"] for port in template["spec"]["containers"][0]["ports"]}


@pytest.mark.parametrize("kind", MONITORS)
def test_monitors_have_the_labels_that_are_set(kind, render):
    expected = {"release": "prometheus-of-all"} if kind == "ServiceMonitor" else {"team": "mesh"}
    for each in render_monitors(kind, render)[0].values():
        assert each["metadata"]["labels"].items() >= expected.items()


@pytest.mark.parametrize("kind", MONITORS)
def test_a_monitor_keeps_the_label_service_of_metrics_and_names_instances(kind, render):
    places = {
        name: each["spec"][MONITORS[kind]][0]["relabelings"] for name, each in render_monitors(kind, render)[0].items()
    }
    for name, source in (("maesh-mesh", "node_name"), ("maesh-controller", "name")):
        dropped, named = places[name]
        assert dropped == {"action": "labeldrop", "regex": "service"}
        assert named == {"sourceLabels": [f"__meta_kubernetes_pod_{source}"], "targetLabel": "instance"}


def find_one(objects, kind, name):
    (found,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def test_monitors_of_a_protected_api_use_https_with_a_token_that_a_value_names(render):
    objects = render(CASES["encryption-with-protected-metrics"], namespace="traffic")
    (endpoint,) = find_one(objects, "PodMonitor", "maesh-controller")["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == {
        "ca": {"configMap": {"name": "maesh-trust", "key": "bundle.pem"}},
        "serverName": "maesh-controller.traffic.svc",
    }
    assert endpoint["authorization"] == {"credentials": {"name": "prometheus-token", "key": "bearer"}}
    (endpoint,) = find_one(objects, "PodMonitor", "maesh-mesh")["spec"]["podMetricsEndpoints"]
    assert not {"scheme", "tlsConfig", "authorization"} & endpoint.keys(), "it reads an open path of the admin port"


def test_without_encryption_a_token_for_prometheus_changes_nothing(render):
    scrape = {"serviceMonitor": {"enabled": True}}
    with_token = render({**CASES["without-encryption"], "metrics": {**scrape, "authorization": {"secret": "token"}}})
    assert with_token == render({**CASES["without-encryption"], "metrics": scrape})


@pytest.mark.parametrize(
    ("values", "controllers", "proxies"),
    [
        ({"enabled": True}, True, True),
        ({"enabled": True, "apiOpen": []}, False, True),
        ({"enabled": True, "adminOpen": []}, True, False),
        ({"enabled": True, "apiOpen": [], "adminOpen": [], "apiClear": True}, True, True),
    ],
)
def test_pods_have_the_annotations_for_prometheus_if_it_can_read_their_metrics(values, controllers, proxies, render):
    objects = render({"mtls": values})
    for (kind, name), expected in (
        (("Deployment", "maesh-controller"), controllers),
        (("DaemonSet", "maesh-mesh"), proxies),
    ):
        annotations = find_one(objects, kind, name)["spec"]["template"]["metadata"].get("annotations", {})
        assert ("prometheus.io/scrape" in annotations) is expected


def test_cert_manager_makes_an_authority_with_a_key_that_the_controllers_can_use(render):
    objects = render(CASES["encryption-with-cert-manager"], namespace="traffic")
    (certificate,) = [each for each in objects if each["kind"] == "Certificate"]
    assert certificate["metadata"]["namespace"] == "traffic"
    spec = certificate["spec"]
    assert (spec["secretName"], spec["isCA"], spec["commonName"]) == ("maesh-ca", True, "Maesh cluster.example")
    assert spec["privateKey"] == {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}
    assert (spec["duration"], spec["renewBefore"]) == ("8760h", "876h")
    assert spec["issuerRef"] == {"name": "root", "kind": "Issuer", "group": "issuers.example"}
    for case in ("encryption", "encryption-with-a-secret-of-others", "defaults"):
        assert not [each for each in render(CASES[case]) if each["kind"] == "Certificate"]


def test_definitions_are_left_to_helm_which_installs_them_first_and_never_upgrades_them(chart, render):
    kinds = {yaml.safe_load(each["data"])["metadata"]["name"] for each in chart.crds}
    assert kinds == {yaml.safe_load(path.read_text())["metadata"]["name"] for path in CHART.glob("crds/*.yaml")}
    assert len(kinds) == 5
    assert not [each for each in render() if each["kind"] == "CustomResourceDefinition"]


def test_notes_say_what_is_on(chart):
    def read(values, **options):
        return chart.render(values, name="mesh", namespace="traffic", **options)["maesh/templates/NOTES.txt"]

    assert "Access control is enabled" not in read({})
    assert "Access control is enabled" in read({"plugins": {"acl": True}})
    assert "kubectl -n traffic" in read({})
    assert "maesh status" in read({})
    assert "maesh dashboard" not in read({})
    assert "maesh dashboard" in read(CASES["dashboard"])
    assert "still open in clear" in read(CASES["encryption-is-being-enabled"])
    assert "traffic between nodes is in clear" in read(CASES["without-encryption"])
    assert "9000/api/services" in read(CASES["without-encryption"])
    assert "crds" not in read({})
    assert "kubectl apply -f charts/maesh/crds" in read({}, is_upgrade=True, is_install=False)


def test_an_archive_has_all_that_the_folder_has(tmp_path, chart, render):
    archive = helm_python.package(CHART, destination=tmp_path)
    with helm_python.Chart.load(archive) as packaged:
        assert packaged.version == "2.0.0"
        for values in ({}, CASES["rules-and-dashboards"]):
            assert packaged.render(values, name="x", namespace="y") == chart.render(values, name="x", namespace="y")
        assert len(packaged.crds) == 5
