"""How the mesh's pods run: with few rights, replaced one by one, and the hooks' in their order."""

from pathlib import Path

import pytest
import yaml

CASES = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text())
ORDER = ["ServiceAccount", "Role", "RoleBinding", "Job"]


def list_pods(objects):
    for each in objects:
        if each["kind"] in ("Deployment", "DaemonSet", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def find(objects, kind, name):
    return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("case", ["defaults", "kube-dns", "placement", "encryption"])
def test_every_pod_meets_the_strictest_pod_security_standard(case, render):
    for name, pod in list_pods(render(CASES[case])):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all(volume.keys() & {"emptyDir", "configMap", "projected"} for volume in pod["volumes"])
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            assert context["capabilities"].get("add", []) == (["NET_BIND_SERVICE"] if name == "coredns" else [])
            assert not any("hostPort" in port for port in container.get("ports", ()))


def test_only_who_speaks_to_the_api_server_has_a_token(render):
    objects = render(CASES["kube-dns"])
    tokens = {pod["serviceAccountName"]: pod["automountServiceAccountToken"] for _, pod in list_pods(objects)}
    assert tokens == {
        "maesh-controller": True,
        "maesh-prepare": True,
        "maesh-cleanup": True,
        "coredns": True,
        "maesh-mesh": False,
    }
    accounts = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ServiceAccount"}
    assert accounts.keys() == {*tokens, "maesh-viewer", "maesh-mtls-admin"}, "no pod has those for people"
    assert not any(each["automountServiceAccountToken"] for each in accounts.values())


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_no_pod_gets_the_variables_of_thousands_of_services(values, render):
    assert all(pod["enableServiceLinks"] is False for _, pod in list_pods(render(values)))


def test_every_pod_writes_to_a_folder_of_its_own_alone(render):
    for name, pod in list_pods(render()):
        assert [each for each in pod["volumes"] if "projected" not in each] == [{"name": "tmp", "emptyDir": {}}], name
        mounts = [each for each in pod["containers"][0]["volumeMounts"] if not each.get("readOnly")]
        assert mounts == [{"name": "tmp", "mountPath": "/tmp"}]


def test_a_pull_secret_is_every_pods(render):
    for _, pod in list_pods(render({"image": {"pullSecret": "registry"}, "kubedns": True})):
        assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_probes_ask_what_the_program_answers(render):
    objects = render()
    probes = {}
    for name, pod in list_pods(objects):
        for container in pod["containers"]:
            found = {
                kind: container.get(kind, {}).get("httpGet", {}).get("path")
                for kind in ("readinessProbe", "livenessProbe")
            }
            probes[name] = (found["readinessProbe"], found["livenessProbe"])
    assert probes["maesh-controller"] == ("/api/status/readiness", "/api/status/liveness")
    assert probes["maesh-mesh"] == ("/ready", "/ping")


def find_proxy(values, render):
    daemon_set = find(render(values), "DaemonSet", "maesh-mesh")
    return daemon_set, daemon_set["spec"]["template"], daemon_set["spec"]["template"]["spec"]["containers"][0]


def test_proxies_have_a_token_for_each_audience_and_no_token_for_the_api_server(render):
    _, template, container = find_proxy({"mtls": {"enabled": True, "tokenSeconds": 900}}, render)
    assert template["spec"]["automountServiceAccountToken"] is False
    (volume,) = [each for each in template["spec"]["volumes"] if "projected" in each]
    tokens = [each["serviceAccountToken"] for each in volume["projected"]["sources"] if "serviceAccountToken" in each]
    assert {(each["audience"], each["path"], each["expirationSeconds"]) for each in tokens} == {
        ("maesh-ca", "ca-token", 900),
        ("maesh-api", "api-token", 900),
    }
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == volume["name"]]
    assert mount == {"name": volume["name"], "mountPath": "/var/run/secrets/maesh", "readOnly": True}


def test_the_files_that_proxies_are_started_with_are_in_their_volume(render):
    _, template, container = find_proxy(CASES["encryption-with-a-secret-of-others"], render)
    (volume,) = [each["projected"]["sources"] for each in template["spec"]["volumes"] if "projected" in each]
    files = {each["serviceAccountToken"]["path"] for each in volume if "serviceAccountToken" in each}
    files |= {item["path"] for each in volume for item in each.get("configMap", {}).get("items", ())}
    named = {
        part for text in container["args"] for part in text.split("=") if part.startswith("/var/run/secrets/maesh")
    }
    assert named == {f"/var/run/secrets/maesh/{path}" for path in files}


def test_proxies_start_before_the_controllers_have_published_what_to_trust(render):
    _, template, _ = find_proxy(CASES["encryption-with-a-secret-of-others"], render)
    (volume,) = [each for each in template["spec"]["volumes"] if "projected" in each]
    (map_,) = [each["configMap"] for each in volume["projected"]["sources"] if "configMap" in each]
    assert map_["optional"] is True
    assert map_["name"] == "our-trust"


def test_a_proxy_that_encrypts_has_the_label_and_the_port_by_which_controllers_find_it(render):
    _, template, container = find_proxy({"mtls": {"enabled": True, "port": 15443}}, render)
    assert template["metadata"]["labels"]["maesh.io/tunnel"] == "15443"
    assert {"name": "tunnel", "containerPort": 15443} in container["ports"]
    for values in (CASES["without-encryption"], CASES["encryption-is-being-disabled"]):
        _, template, container = find_proxy(values, render)
        assert "maesh.io/tunnel" not in template["metadata"]["labels"]
        assert [port["name"] for port in container["ports"]] == ["api"]


def test_with_encryption_a_proxy_is_ready_before_the_old_one_of_its_node_ends(render):
    update, _, _ = find_proxy(CASES["without-encryption"], render)
    assert update["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1}
    update, _, container = find_proxy(CASES["encryption"], render)
    assert update["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert not any("hostPort" in port for port in container["ports"]), "two proxies of one node need no common port"


def test_the_last_step_of_disabling_encryption_restarts_no_proxy(render):
    _, before, _ = find_proxy(CASES["encryption-is-being-disabled"], render)
    _, after, _ = find_proxy(CASES["without-encryption"], render)
    assert before == after


def test_a_change_of_mode_restarts_no_proxy(render):
    templates = [find_proxy({"mtls": {"enabled": True, "mode": mode}}, render)[1] for mode in ("off", "strict")]
    assert templates[0] == templates[1]


def test_proxies_are_replaced_one_by_one_and_have_time_to_drain(render):
    for seconds in (0, 10, 3600):
        daemon_set = find(render({"mesh": {"drainSeconds": seconds}}), "DaemonSet", "maesh-mesh")
        assert daemon_set["spec"]["updateStrategy"]["type"] == "RollingUpdate"
        pod = daemon_set["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert f"--drain-timeout={seconds}s" in container["args"]
        assert pod["terminationGracePeriodSeconds"] >= pause + seconds + 5


def test_a_controller_is_replaced_before_it_goes_and_may_always_be_evicted(render):
    for replicas in (1, 2, 5):
        objects = render({"controller": {"replicas": replicas}})
        deployment = find(objects, "Deployment", "maesh-controller")
        assert deployment["spec"]["replicas"] == replicas
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        budget = find(objects, "PodDisruptionBudget", "maesh-controller")
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_replicas_keep_away_from_each_other_unless_told_where_to_go(render):
    def read(values):
        return find(render(values), "Deployment", "maesh-controller")["spec"]["template"]["spec"]["affinity"]

    assert "preferredDuringSchedulingIgnoredDuringExecution" in read({})["podAntiAffinity"]
    assert read({"controller": {"affinity": {"nodeAffinity": {}}}}) == {"nodeAffinity": {}}


def test_what_is_given_about_pods_wins_over_what_the_chart_would_say(render):
    template = find(render(CASES["odd-texts"]), "DaemonSet", "maesh-mesh")["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9090",
        "example.com/text": 'no: {x} # "y"',
    }


@pytest.mark.parametrize(
    ("command", "when"), [("prepare", "post-install,post-upgrade,post-rollback"), ("cleanup", "post-delete")]
)
def test_a_hook_makes_its_account_and_rights_before_its_job_and_leaves_nothing(command, when, render):
    for values in ({}, CASES["kube-dns"]):
        parts = [each for each in render(values) if each["metadata"]["labels"]["component"] == command]
        assert {each["metadata"]["name"] for each in parts} == {f"maesh-{command}"}
        weights = {}
        for each in parts:
            annotations = each["metadata"]["annotations"]
            assert annotations["helm.sh/hook"] == when
            assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
            weights.setdefault(each["kind"], set()).add(int(annotations["helm.sh/hook-weight"]))
        assert [len(weights[kind]) for kind in ORDER] == [1] * len(ORDER)
        assert sorted(ORDER, key=lambda kind: min(weights[kind])) == ORDER
        assert weights.keys() == set(ORDER)


def test_a_hooks_job_ends_and_is_no_pod_of_another_workload(render):
    for command in ("prepare", "cleanup"):
        job = find(render(), "Job", f"maesh-{command}")
        assert 0 < job["spec"]["activeDeadlineSeconds"] < 300, "Helm gives up after five minutes"
        assert job["spec"]["backoffLimit"] == 3
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
        assert job["spec"]["template"]["metadata"]["labels"]["component"] == command


def test_nothing_that_is_no_hook_has_a_hooks_annotations(render):
    hooks = {"prepare", "cleanup"}
    for each in render(CASES["kube-dns"]):
        annotations = each["metadata"].get("annotations", {})
        assert ("helm.sh/hook" in annotations) is (each["metadata"]["labels"]["component"] in hooks)


def test_hooks_run_where_the_controller_may(render):
    values = CASES["placement"]
    for command in ("prepare", "cleanup"):
        pod = find(render(values), "Job", f"maesh-{command}")["spec"]["template"]["spec"]
        assert pod["nodeSelector"] == values["controller"]["nodeSelector"]
        assert pod["tolerations"] == values["controller"]["tolerations"]


def test_the_meshs_own_dns_is_there_with_kube_dns_alone(render):
    assert not [each for each in render() if each["metadata"]["labels"]["component"] == "coredns"]
    objects = render(CASES["kube-dns"], namespace="traffic")
    found = [
        (each["kind"], each["metadata"]["name"])
        for each in objects
        if each["metadata"]["labels"]["component"] == "coredns"
    ]
    assert sorted(found) == [
        ("ClusterRole", "maesh-coredns"),
        ("ClusterRoleBinding", "coredns"),
        ("ConfigMap", "coredns"),
        ("Deployment", "coredns"),
        ("Service", "coredns"),
        ("ServiceAccount", "coredns"),
    ]
    corefile = find(objects, "ConfigMap", "coredns")["data"]["Corefile"]
    assert "kubernetes cluster.example in-addr.arpa" in corefile
    assert corefile.count("{") == corefile.count("}")
    deployment = find(objects, "Deployment", "coredns")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/coredns:1.12.0"
    assert find(objects, "Service", "coredns")["metadata"]["namespace"] == "traffic"
