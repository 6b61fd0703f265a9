import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.discovery.documents.validation import (
    MAX_FAULTS,
    is_address,
    is_port_name,
    is_qualified_name,
    is_subdomain,
)
from maesh_core.model.keys import is_label

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: apps}\nspec: "
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: apps}\n"
ENDPOINTS = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: apps}\nsubsets: "
SLICE = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, namespace: apps}\n"

HOSTILE_NAMES = ["../a", "a/b", "a:b", "a@b", "A", "-a", "a-", "a_b", "a b", "a\\n", "ä", "a" * 254, "..", ".", "%61"]


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "a.b", "a" * 64])
def test_a_service_or_namespace_that_is_no_label_is_refused(find_fault, name):
    service = f'apiVersion: v1\nkind: Service\nmetadata: {{name: "{name}"}}\n'
    assert "metadata.name" in find_fault(service)
    assert "metadata.name" in find_fault(service.replace("Service", "Namespace"))
    assert "metadata.namespace" in find_fault(
        f'apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: "{name}"}}\n'
    )


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "a..b", "a.", ".a"])
def test_a_pods_name_that_is_no_subdomain_is_refused(find_fault, name):
    assert "metadata.name" in find_fault(f'apiVersion: v1\nkind: Pod\nmetadata: {{name: "{name}"}}\n')


def test_a_pods_name_may_have_dots(load_one):
    assert load_one("apiVersion: v1\nkind: Pod\nmetadata: {name: a.b-c.d0}\n").metadata.name == "a.b-c.d0"


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_every_rfc_1123_label_is_a_label(text):
    assert is_label(text)
    assert is_subdomain(text)


@given(st.text(max_size=10))
def test_a_label_holds_nothing_that_keys_are_joined_with(text):
    if is_label(text):
        assert not set(text) & set("/:@. \n")


@given(st.integers(min_value=0, max_value=2**32 - 1), st.integers(min_value=0, max_value=2**128 - 1))
def test_every_address_is_an_address_of_its_family(four, six):
    import ipaddress

    text4, text6 = str(ipaddress.IPv4Address(four)), str(ipaddress.IPv6Address(six))
    assert is_address(text4, "IPv4")
    assert is_address(text6, "IPv6")
    assert not is_address(text4, "IPv6")
    assert not is_address(text6, "IPv4")


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "127.1", "127.0.0.01", "1.2.3.4\n", " 1.2.3.4", "1.2.3.4:80", "fe80::1%eth0", "[::1]", "1\0"],
)
def test_what_only_resembles_an_address_is_none(text):
    assert not is_address(text)


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("http", True),
        ("h2-c", True),
        ("80", False),
        ("a--b", False),
        ("a" * 16, False),
        ("Web", False),
        ("-a", False),
        ("", False),
    ],
)
def test_names_of_container_ports_follow_rfc_6335(text, is_good):
    assert is_port_name(text) is is_good


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("http", True),
        ("HTTP_2.x-y", True),
        ("kubernetes.io/h2c", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("Kubernetes.io/h2c", False),
        ("/h2c", False),
        ("a/b/c", False),
        ("a/", False),
        ("-a", False),
        ("a.", False),
        ("a\n", False),
        ("", False),
    ],
)
def test_names_of_application_protocols_are_qualified_names(text, is_good):
    assert is_qualified_name(text) is is_good


@pytest.mark.parametrize("text", ["~", "''"])
def test_an_empty_application_protocol_is_absent(load_one, text):
    (port,) = load_one(f"{SERVICE}{{ports: [{{port: 80, appProtocol: {text}}}]}}").spec.ports
    assert port.app_protocol == ""


def test_an_application_protocol_is_read_from_a_manifest(load_one):
    (port,) = load_one(f"{SERVICE}{{ports: [{{port: 80, appProtocol: kubernetes.io/h2c}}]}}").spec.ports
    assert port.app_protocol == "kubernetes.io/h2c"


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("{ports: [{port: 0}]}", "spec.ports[0].port: 0 is not in 1 to 65535"),
        ("{ports: [{port: 65536}]}", "spec.ports[0].port: 65536"),
        ("{ports: [{port: -1}]}", "spec.ports[0].port: -1"),
        ("{ports: [{port: 80, targetPort: 70000}]}", "spec.ports[0].targetPort: 70000"),
        ("{ports: [{port: 80, targetPort: '80'}]}", "spec.ports[0].targetPort: '80'"),
        ("{ports: [{port: 80, targetPort: 'a b'}]}", "spec.ports[0].targetPort"),
        ("{ports: [{port: 80, protocol: tcp}]}", "spec.ports[0].protocol: 'tcp' is not one of SCTP, TCP, UDP"),
        ("{ports: [{port: 80, name: a/b}]}", "spec.ports[0].name"),
        ("{ports: [{port: 80, appProtocol: a b}]}", "spec.ports[0].appProtocol: 'a b' is not a qualified name"),
        ("{ports: [{port: 80, appProtocol: 80}]}", "spec.ports[0].appProtocol"),
        ("{ports: [{port: 80, name: a}, {port: 80, name: b}]}", "port 80/TCP appears twice"),
        ("{ports: [{port: 80, name: a}, {port: 81, name: a}]}", "name 'a' appears twice"),
        ("{ports: [{port: 80}, {port: 81}]}", "name '' appears twice"),
        ("{clusterIP: example.org}", "spec.clusterIP"),
        ("{clusterIPs: ['127.0.0.1', 'x']}", "spec.clusterIPs[1]"),
        ("{type: Other}", "spec.type"),
        ("{type: ExternalName, externalName: 'a b'}", "spec.externalName"),
    ],
)
def test_a_service_that_an_api_server_would_refuse_is_refused(find_fault, spec, fault):
    assert fault in find_fault(SERVICE + spec)


def test_the_same_number_may_be_a_tcp_and_a_udp_port(load_one):
    spec = "{ports: [{port: 53, name: a}, {port: 53, name: b, protocol: UDP}]}"
    assert len(load_one(SERVICE + spec).spec.ports) == 2


@pytest.mark.parametrize("cluster_ip", ["None", "''", "10.0.0.1", "'fd00::1'"])
def test_cluster_addresses_may_be_absent_or_of_either_family(load_one, cluster_ip):
    load_one(f"{SERVICE}{{clusterIP: {cluster_ip}, type: ''}}")


@pytest.mark.parametrize("target", ["0", "''"])
def test_an_empty_target_port_is_the_port(load_one, target):
    (port,) = load_one(f"{SERVICE}{{ports: [{{port: 80, targetPort: {target}, protocol: ''}}]}}").spec.ports
    assert (port.target_port, port.protocol) == (None, "TCP")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ("endpoints: [{addresses: [localhost]}]", "endpoints[0].addresses: 'localhost' is not an IPv4 address"),
        ("addressType: IPv6\nendpoints: [{addresses: [127.0.0.1]}]", "is not an IPv6 address"),
        ("addressType: IPX", "addressType: 'IPX'"),
        ("endpoints: [{addresses: []}]", "endpoints[0].addresses: none is given"),
        ("ports: [{port: 0}]", "ports[0].port: 0"),
        ("endpoints: [{addresses: [127.0.0.1], targetRef: {name: a/b}}]", "endpoints[0].targetRef.name"),
        ("endpoints: [{addresses: [127.0.0.1], targetRef: {namespace: a.b}}]", "endpoints[0].targetRef.namespace"),
    ],
)
def test_a_slice_that_an_api_server_would_refuse_is_refused(find_fault, fields, fault):
    assert fault in find_fault(SLICE + fields)


def test_a_slices_ports_get_their_protocol(load_one):
    assert load_one(SLICE + "ports: [{port: 1, protocol: ''}, {port: ~}]").ports[0].protocol == "TCP"


@pytest.mark.parametrize(
    ("subsets", "fault"),
    [
        ("[{addresses: [{ip: x}]}]", "subsets[0].addresses[0].ip: 'x' is not an IP address"),
        ("[{ports: [{port: 70000}]}]", "subsets[0].ports[0].port: 70000"),
        ("[{addresses: [{ip: 127.0.0.1, targetRef: {name: A}}]}]", "targetRef.name"),
    ],
)
def test_endpoints_that_an_api_server_would_refuse_are_refused(find_fault, subsets, fault):
    assert fault in find_fault(ENDPOINTS + subsets)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ("status: {podIP: 127.0.0.1/8}", "status.podIP"),
        ("spec: {serviceAccountName: a/b}", "spec.serviceAccountName"),
        ("spec: {containers: [{ports: [{containerPort: 0}]}]}", "spec.containers[0].ports[0].containerPort: 0"),
        ("spec: {containers: [{ports: [{containerPort: 1, name: A}]}]}", "spec.containers[0].ports[0].name"),
        ("spec: {containers: [{ports: [{containerPort: 1, protocol: x}]}]}", "spec.containers[0].ports[0].protocol"),
    ],
)
def test_a_pod_that_an_api_server_would_refuse_is_refused(find_fault, fields, fault):
    assert fault in find_fault(POD + fields)


def test_a_pod_without_account_or_address_is_complete(load_one):
    pod = load_one(POD + "spec: {serviceAccountName: ''}")
    assert pod.spec.service_account_name == "default"
    assert pod.status.pod_ip == ""


def test_a_namespaces_own_namespace_is_dropped(load_one):
    assert load_one("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}").key == ("", "a")


def test_all_faults_of_an_object_are_reported_up_to_a_limit(find_fault):
    ports = ", ".join(f"{{port: 0, name: p{i}}}" for i in range(50))
    text = find_fault(f"{SERVICE}{{ports: [{ports}]}}")
    assert text.count("is not in 1 to 65535") == MAX_FAULTS
    assert text.endswith("and more")


def test_a_hostile_value_is_shown_short_and_on_one_line(find_fault):
    text = find_fault('apiVersion: v1\nkind: Pod\nmetadata: {name: "' + "\\u001b\\n" * 500 + '"}')
    assert "\x1b" not in text
    assert "\n" not in text
    assert len(text) < 1500
