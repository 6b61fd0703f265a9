"""Each account may do what its part does, and nothing else."""

from pathlib import Path

import pytest
import yaml
from maesh_acl.kinds import KINDS as ACL_KINDS
from maesh_smi.kinds import KINDS as SMI_KINDS

from maesh_core.controller.api.security.authentication import ACCESS_PREFIX
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.resources import NAMESPACES

CASES = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text())
NAMESPACE = "traffic"
CONTROLLER, PREPARE, CLEANUP, PROXY, DNS = (
    f"{NAMESPACE}/{name}" for name in ("maesh-controller", "maesh-prepare", "maesh-cleanup", "maesh-mesh", "coredns")
)
SHIPPED = {"smi": SMI_KINDS, "acl": ACL_KINDS}
READS = ("get", "list", "watch")
ENCRYPTION, CLEAR = ({"mtls": {"enabled": each}} for each in (True, False))
REVIEWS = {"tokenreviews": "authentication.k8s.io", "subjectaccessreviews": "authorization.k8s.io"}


@pytest.fixture
def grant(render, permissions):
    return lambda values=None: permissions(render(values, name="other", namespace=NAMESPACE))


def list_groups(kind):
    return {version.rpartition("/")[0] for version in kind.api_versions}


@pytest.mark.parametrize(
    "enabled", [(), ("smi",), ("acl",), ("smi", "acl")], ids=lambda enabled: "+".join(enabled) or "none"
)
def test_the_controller_reads_the_kinds_that_it_watches_everywhere_and_no_others(enabled, grant):
    allowed = grant({**CLEAR, "plugins": {name: name in enabled for name in SHIPPED}})
    watched = [kind for kind in CORE_KINDS if kind.is_watched]
    watched += [kind for name in enabled for kind in SHIPPED[name]]
    watched += [NAMESPACES] if "acl" in enabled else []
    others = [
        kind for kind in (*CORE_KINDS, *SMI_KINDS, *ACL_KINDS) if kind.name not in {each.name for each in watched}
    ]
    for kinds, expected in ((watched, True), (others, False)):
        for kind in kinds:
            for group in list_groups(kind):
                for verb in READS:
                    found = allowed.allows(CONTROLLER, verb=verb, group=group, resource=kind.plural)
                    assert found is expected, (verb, group, kind.plural)


@pytest.mark.parametrize("is_enabled", [False, True])
def test_the_controller_patches_the_statuses_of_routes_only_with_the_gateway(grant, is_enabled):
    allowed = grant({"plugins": {"gateway": is_enabled}})
    for plural in ("httproutes", "grpcroutes", "tcproutes", "udproutes"):
        request = {"verb": "patch", "group": "gateway.networking.k8s.io", "resource": plural}
        assert allowed.allows(CONTROLLER, **request, subresource="status") is is_enabled
        assert not allowed.allows(CONTROLLER, **request)


def test_only_with_a_transport_or_access_control_the_controller_reads_namespaces(grant):
    for verb in READS:
        request = {"verb": verb, "group": "", "resource": "namespaces"}
        assert grant(ENCRYPTION).allows(CONTROLLER, **request)
        assert not grant(CLEAR).allows(CONTROLLER, **request)
        assert grant({**CLEAR, "acl": True}).allows(CONTROLLER, **request)


def test_a_plugin_of_others_reads_what_it_is_given(grant):
    request = {"verb": "watch", "group": "stamp.example", "resource": "stamps"}
    assert not grant().allows(CONTROLLER, **request)
    assert grant(CASES["plugin-of-others"]).allows(CONTROLLER, **request)


def test_the_controller_writes_services_in_the_meshs_namespace_alone(grant):
    for verb in ("create", "update", "delete"):
        request = {"verb": verb, "group": "", "resource": "services"}
        assert grant().allows(CONTROLLER, **request, namespace=NAMESPACE)
        assert not grant().allows(CONTROLLER, **request, namespace="shop")
        assert not grant().allows(CONTROLLER, **request)


def test_the_controller_holds_one_lease_in_the_meshs_namespace(grant):
    lease = {"group": "coordination.k8s.io", "resource": "leases"}
    assert grant().allows(CONTROLLER, verb="create", **lease, namespace=NAMESPACE)
    for verb in ("get", "update"):
        assert grant().allows(CONTROLLER, verb=verb, **lease, namespace=NAMESPACE, name="maesh-controller")
        assert not grant().allows(CONTROLLER, verb=verb, **lease, namespace=NAMESPACE, name="other")
        assert not grant().allows(CONTROLLER, verb=verb, **lease, namespace="kube-system", name="maesh-controller")


def test_the_controller_tells_of_objects_in_their_namespaces(grant):
    for verb, expected in (("create", True), ("patch", True), ("delete", False), ("list", False)):
        found = grant().allows(CONTROLLER, verb=verb, group="", resource="events", namespace="shop", name="x")
        assert found is expected


@pytest.mark.parametrize("account", [CONTROLLER, PREPARE, CLEANUP])
def test_who_keeps_the_dns_may_write_its_objects_by_name(account, grant):
    allowed = grant(CASES["dns-of-others"])

    def may(verb, group, resource, name, namespace="kube-system"):
        return allowed.allows(account, verb=verb, group=group, resource=resource, namespace=namespace, name=name)

    for name in ("coredns", "kube-dns", "rke2-coredns-rke2-coredns", "dns-coredns"):
        assert may("get", "", "configmaps", name)
        assert may("update", "", "configmaps", name)
        assert may("get", "apps", "deployments", name)
        assert may("update", "apps", "deployments", name)
        assert may("delete", "", "configmaps", name) is (account == CLEANUP)
        assert not may("delete", "apps", "deployments", name)
        assert not may("update", "", "configmaps", name, namespace="shop")
    assert may("update", "", "configmaps", "coredns-custom")
    assert may("list", "apps", "deployments", "")
    assert not may("update", "", "configmaps", "kubeadm-config")
    assert not may("update", "apps", "deployments", "metrics-server")
    assert not may("list", "", "configmaps", "")
    assert may("list", "apps", "daemonsets", "")
    assert not may("update", "apps", "daemonsets", "node-local-dns")
    for name in ("node-local-dns", "nodelocaldns"):
        assert may("get", "", "configmaps", name)
        assert not may("update", "", "configmaps", name)


def test_stub_domains_may_be_made_and_removed_again(grant):
    maps = {"group": "", "resource": "configmaps", "namespace": "kube-system"}
    upstream = {"group": "", "resource": "services", "namespace": "kube-system", "name": "kube-dns-upstream"}
    for account in (CONTROLLER, PREPARE):
        assert grant().allows(account, verb="create", **maps)
        assert grant().allows(account, verb="get", **upstream)
        assert not grant().allows(account, verb="update", **upstream)
        assert not grant().allows(account, verb="delete", **maps, name="kube-dns")
    assert grant().allows(CLEANUP, verb="delete", **maps, name="kube-dns")
    assert not grant().allows(CLEANUP, verb="delete", **maps, name="kubeadm-config")
    assert not grant().allows(CLEANUP, verb="create", **maps)


def test_kube_dns_needs_more_and_only_with_it(grant):
    without, with_it = grant(), grant(CASES["kube-dns"])
    own = {"namespace": NAMESPACE, "name": "coredns"}
    for account in (CONTROLLER, PREPARE, CLEANUP):
        for resource, group in (("configmaps", ""), ("deployments", "apps")):
            assert with_it.allows(account, verb="update", group=group, resource=resource, **own)
            assert not without.allows(account, verb="update", group=group, resource=resource, **own)
        # To tell what is missing where there is kube-dns.
        assert without.allows(account, verb="get", group="apps", resource="deployments", **own)
    assert with_it.allows(PREPARE, verb="get", group="", resource="services", **own)


def test_cleanup_removes_services_of_the_meshs_namespace(grant):
    for verb in ("list", "delete"):
        assert grant().allows(CLEANUP, verb=verb, group="", resource="services", namespace=NAMESPACE, name="x")
        assert not grant().allows(CLEANUP, verb=verb, group="", resource="services", namespace="shop", name="x")


def test_proxies_have_no_rights_at_all(grant):
    assert grant().list_grants(PROXY) == []


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_no_rule_has_a_wildcard_or_is_about_rights_or_secrets_of_others(values, grant):
    allowed = grant(values)
    for account in (CONTROLLER, PREPARE, CLEANUP, DNS):
        for namespace, rule in allowed.list_grants(account):
            texts = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not [text for text in texts if "*" in text]
            assert not {"rbac.authorization.k8s.io", "serviceaccounts", "impersonate", "escalate", "bind"} & texts
            assert not [text for text in rule["resources"] if text.startswith("pods/")]
            if "secrets" in texts:
                assert (account, namespace, len(rule["resources"])) == (CONTROLLER, NAMESPACE, 1)
                assert rule.get("resourceNames") or rule["verbs"] == ["create"]


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_nothing_is_written_cluster_wide_but_events_reviews_and_statuses(values, grant):
    for account in (CONTROLLER, PREPARE, CLEANUP, DNS):
        for namespace, rule in grant(values).list_grants(account):
            if not namespace:
                is_review = rule["verbs"] == ["create"] and set(rule["resources"]) <= REVIEWS.keys()
                is_status = rule["verbs"] == ["patch"] and all(each.endswith("/status") for each in rule["resources"])
                assert set(rule["verbs"]) <= set(READS) or rule["resources"] == ["events"] or is_review or is_status
    for account in (PREPARE, CLEANUP):
        assert all(namespace for namespace, _ in grant(values).list_grants(account))


def test_only_with_encryption_the_controller_reviews_tokens_and_sees_whether_a_node_exists(grant):
    for resource, group in REVIEWS.items():
        assert grant(ENCRYPTION).allows(CONTROLLER, verb="create", group=group, resource=resource)
        assert not grant(CLEAR).allows(CONTROLLER, verb="create", group=group, resource=resource)
    nodes = {"group": "", "resource": "nodes", "name": "node-1"}
    assert grant(ENCRYPTION).allows(CONTROLLER, verb="get", **nodes)
    assert not grant(ENCRYPTION).allows(CONTROLLER, verb="list", **nodes)
    assert not grant(CLEAR).allows(CONTROLLER, verb="get", **nodes)


@pytest.mark.parametrize("kind", ["secrets", "configmaps"])
def test_with_encryption_the_controller_uses_the_secret_and_the_config_map_that_values_name(kind, grant):
    values = {"mtls": {"enabled": True, "authority": {"secret": "our-secrets"}, "trustConfigMap": "our-configmaps"}}
    allowed, without = grant(values), grant(CLEAR)
    named = {"group": "", "resource": kind, "namespace": NAMESPACE}
    for verb in (*READS, "update"):
        assert allowed.allows(CONTROLLER, verb=verb, **named, name=f"our-{kind}")
        assert not allowed.allows(CONTROLLER, verb=verb, **named, name="other")
        assert not allowed.allows(CONTROLLER, verb=verb, **{**named, "namespace": "shop"}, name=f"our-{kind}")
        assert not without.allows(CONTROLLER, verb=verb, **named, name=f"our-{kind}")
    assert allowed.allows(CONTROLLER, verb="create", **named)
    assert not allowed.allows(CONTROLLER, verb="delete", **named, name=f"our-{kind}")


@pytest.mark.parametrize("case", ["encryption-with-a-secret-of-others", "encryption-with-cert-manager"])
def test_an_authority_of_others_is_not_made_by_the_controller(case, grant):
    secrets = {"group": "", "resource": "secrets", "namespace": NAMESPACE}
    name = CASES[case]["mtls"]["authority"].get("secret", "maesh-ca")
    assert grant(CASES[case]).allows(CONTROLLER, verb="update", **secrets, name=name), "for its rotation"
    assert not grant(CASES[case]).allows(CONTROLLER, verb="create", **secrets)


def test_a_viewer_reads_the_api_and_changes_nothing(grant):
    allowed = grant(ENCRYPTION)
    account = f"{NAMESPACE}/maesh-viewer"
    for path in ("/", "/api/services", "/api/status/nodes", "/api/tap", "/metrics", "/mtls/status", "/assets/app.js"):
        assert allowed.allows_path(account, verb="get", path=ACCESS_PREFIX + path), path
        assert not allowed.allows_path(account, verb="get", path=path), "it may be a path of the API server"
        assert not allowed.allows_path(account, verb="post", path=ACCESS_PREFIX + path)
    assert {tuple(grant.rule) for grant in allowed.list_grants(account)} == {("nonResourceURLs", "verbs")}
    assert grant(CLEAR).list_grants(account) == []


def test_only_an_administrator_rotates_and_revokes(grant):
    allowed = grant(ENCRYPTION)
    for path in ("/mtls/rotation", "/mtls/revocations"):
        assert allowed.allows_path(f"{NAMESPACE}/maesh-mtls-admin", verb="post", path=ACCESS_PREFIX + path)
        assert not allowed.allows_path(f"{NAMESPACE}/maesh-viewer", verb="post", path=ACCESS_PREFIX + path)
    account = f"{NAMESPACE}/maesh-mtls-admin"
    assert allowed.allows_path(account, verb="get", path=f"{ACCESS_PREFIX}/mtls/status")
    assert not allowed.allows_path(account, verb="post", path=f"{ACCESS_PREFIX}/mtls/certificates")


@pytest.mark.parametrize("name", ["maesh-viewer", "maesh-mtls-admin"])
def test_a_role_for_people_gives_tokens_of_its_account_alone(name, render):
    (role,) = [each for each in render(ENCRYPTION) if (each["kind"], each["metadata"]["name"]) == ("Role", name)]
    rules = {rule["resources"][0]: rule for rule in role["rules"]}
    assert rules["serviceaccounts/token"]["resourceNames"] == [name]
    assert rules["serviceaccounts/token"]["verbs"] == ["create"]
    assert rules["configmaps"]["resourceNames"] == ["maesh-trust"]
    assert rules.keys() == {"serviceaccounts/token", "configmaps", "pods", "pods/portforward"}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_every_binding_is_of_a_role_and_an_account_that_are_there(values, render):
    objects = render(values, namespace=NAMESPACE)
    accounts = {each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"}
    roles = {
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in objects
        if each["kind"].endswith("Role")
    } - {("Role", NAMESPACE, name) for name in ("maesh-viewer", "maesh-mtls-admin")}  # people are bound to these
    bound = set()
    for each in objects:
        if each["kind"].endswith("RoleBinding"):
            (subject,) = each["subjects"]
            assert subject["namespace"] == NAMESPACE
            assert subject["name"] in accounts
            bound.add((each["roleRef"]["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"]))
    assert bound == roles


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"verb": "get", "resource": "pods", "name": "a"}, True),
        ({"verb": "get", "resource": "pods", "name": "c"}, False),
        ({"verb": "list", "resource": "pods"}, False),
        ({"verb": "get", "resource": "pods", "subresource": "log", "name": "a"}, False),
        ({"verb": "get", "resource": "deployments", "subresource": "scale", "name": "a"}, True),
        ({"verb": "get", "resource": "pods", "name": "a", "group": "apps"}, False),
        ({"verb": "get", "resource": "pods", "name": "a", "namespace": "m"}, False),
        ({"verb": "delete", "resource": "anything", "namespace": "", "group": "x"}, True),
    ],
)
def test_what_answers_these_questions_reads_roles_as_kubernetes_does(request_, expected, permissions):
    def build(kind, rules, **metadata):
        return {"kind": kind, "metadata": {"name": "r", **metadata}, "rules": rules}

    def bind(kind, **metadata):
        subject = {"kind": "ServiceAccount", "name": "a", "namespace": "n"}
        return {
            "kind": f"{kind}Binding",
            "metadata": {"name": "b", **metadata},
            "roleRef": {"kind": kind, "name": "r"},
            "subjects": [subject],
        }

    rules = [
        {"apiGroups": [""], "resources": ["pods"], "resourceNames": ["a", "b"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["deployments/scale"], "verbs": ["*"]},
    ]
    wide = [{"apiGroups": ["x"], "resources": ["*"], "verbs": ["*"]}]
    found = permissions(
        [
            build("Role", rules, namespace="n"),
            build("ClusterRole", wide),
            bind("Role", namespace="n"),
            bind("ClusterRole"),
        ]
    )
    assert found.allows("n/a", **{"group": "", "namespace": "n", **request_}) is expected
    assert not found.allows("n/other", **{"group": "", "namespace": "n", **request_})
