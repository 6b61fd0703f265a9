"""Which kubeconfig, pod account or master URL is used, and how unusable ones are reported."""

import pytest
import yaml
from kubernetes_asyncio.config import incluster_config

from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.errors import KubernetesError, StartupError
from maesh_testing.api_server import ApiServer

from .logins import get


@pytest.fixture
def pod_account(secure_server, tmp_path, monkeypatch):
    """Put a pod's account where the library looks for it, which takes no other path."""
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text(secure_server.token)
    authority.write_bytes(secure_server.authority.pem)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    return token, authority


@pytest.fixture
def pod_environment(secure_server):
    return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(secure_server.port)}


async def test_the_token_of_the_pod_s_account_is_read_again_when_it_is_renewed(
    connect, secure_server, pod_account, pod_environment
):
    client = connect("", environment=pod_environment)
    await get(client)
    pod_account[0].write_text(secure_server.add_token("renewed"))
    await get(client)


@pytest.mark.parametrize("broken", ["no token", "empty token", "no authority", "bad authority", "no port"])
async def test_an_unusable_account_is_reported_in_one_line(connect, pod_account, pod_environment, broken):
    token, authority = pod_account
    match broken:
        case "no token":
            token.unlink()
        case "empty token":
            token.write_text("")
        case "no authority":
            authority.unlink()
        case "bad authority":
            authority.write_text("-----BEGIN CERTIFICATE-----\nno\n")
        case "no port":
            del pod_environment["KUBERNETES_SERVICE_PORT"]
    with pytest.raises(KubernetesError, match="cannot be used: ") as caught:
        await get(connect("", environment=pod_environment))
    assert "\n" not in str(caught.value)


async def test_a_named_kubeconfig_precedes_the_pod_and_the_pod_precedes_the_variable(
    connect, secure_server, tmp_path, pod_account, pod_environment
):
    named = secure_server.write_kubeconfig(tmp_path / "named", token=secure_server.add_token("n", user="named"))
    other = secure_server.write_kubeconfig(tmp_path / "other", token=secure_server.add_token("o", user="other"))
    pod_account[0].write_text(secure_server.add_token("p", user="pod"))
    for user in ("named", "other", "pod"):
        secure_server.set_rules(user, [])
    both = pod_environment | {"KUBECONFIG": str(other)}
    for path, environment, user in (
        (named, both, "named"),
        ("", both, "pod"),
        ("", {"KUBECONFIG": str(other)}, "other"),
    ):
        with pytest.raises(KubernetesError, match=f'User "{user}" cannot'):
            await get(connect(path, environment=environment))


async def test_the_kubeconfig_in_the_home_folder_comes_last(connect, secure_server, tmp_path):
    (tmp_path / ".kube").mkdir()
    secure_server.write_kubeconfig(tmp_path / ".kube" / "config")
    await get(connect("", environment={"HOME": str(tmp_path)}))


async def test_several_kubeconfigs_are_merged(connect, secure_server, tmp_path):
    document = yaml.safe_load(secure_server.write_kubeconfig(tmp_path / "all").read_text())
    users = {key: document.pop(key) for key in ("users",)}
    (tmp_path / "a").write_text(yaml.safe_dump(document))
    (tmp_path / "b").write_text(yaml.safe_dump(users))
    await get(connect(f"{tmp_path / 'a'}:{tmp_path / 'b'}"))


async def test_the_master_url_replaces_the_server_and_keeps_the_login(connect, secure_server, tmp_path):
    path = secure_server.write_kubeconfig(tmp_path / "k")
    path.write_text(path.read_text().replace(str(secure_server.port), "1"))
    await get(connect(path, master_url=secure_server.url + "/"))


async def test_the_master_url_alone_needs_a_server_without_login(connect):
    with ApiServer(anonymous=True) as server:
        await get(connect("", master_url=server.url))


async def test_a_missing_kubeconfig_is_skipped_while_another_exists(connect, secure_server, tmp_path):
    path = secure_server.write_kubeconfig(tmp_path / "k")
    for paths in (f"{tmp_path}/nowhere:{path}", f":{path}::{tmp_path}/nowhere"):
        await get(connect(paths))
        await get(connect("", environment={"KUBECONFIG": paths}))


async def test_a_process_without_kubeconfig_pod_and_url_has_no_cluster():
    assert find_access("", "", {}) is None


@pytest.mark.parametrize("url", ["127.0.0.1:6443", "ftp://127.0.0.1", "unix:///run/api"])
async def test_an_invalid_master_url_is_refused(connect, url):
    with pytest.raises(KubernetesError, match=r"--master-url: .* is not an http or https address"):
        await get(connect("", master_url=url))


def test_a_missing_named_kubeconfig_is_an_error(tmp_path):
    with pytest.raises(StartupError, match=r"kubeconfig .*/k: no such file"):
        find_access(str(tmp_path / "k"), "", {})
    with pytest.raises(StartupError, match=r"kubeconfig .*/k: no such file"):
        find_access("", "", {"KUBECONFIG": str(tmp_path / "k")})


MINIMAL = {
    "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    "users": [{"name": "a", "user": {}}],
    "current-context": "a",
}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it has no current-context"),
        (b"[]", "it is not a kubeconfig"),
        (b"text", "it is not a kubeconfig"),
        (b"\x00\xff", "cannot be used"),
        (b"a: [\n  b: {\n", "while parsing a flow"),
        (b"a: b", "current-context"),
        (MINIMAL | {"current-context": "b"}, "its current-context 'b' is not a context"),
        (MINIMAL | {"clusters": []}, "names the cluster 'a', which does not exist"),
        (MINIMAL | {"clusters": [{"name": "a", "cluster": {"insecure-skip-tls-verify": True}}]}, "names no server"),
        (MINIMAL | {"clusters": 1}, "it is not a kubeconfig"),
        (MINIMAL | {"clusters": [{"name": "a", "cluster": {"server": "host:6443"}}]}, "the cluster's server"),
        (MINIMAL | {"clusters": "a"}, "it is not a kubeconfig"),
        (MINIMAL | {"users": [{"name": "a", "user": {"client-certificate": "nowhere.pem"}}]}, "nowhere.pem"),
        (MINIMAL | {"users": [{"name": "a", "user": {"client-certificate-data": "!"}}]}, "cannot be used"),
        (MINIMAL | {"users": [{"name": "a", "user": {"exec": {"command": "/nowhere"}}}]}, "apiVersion"),
        (
            MINIMAL | {"users": [{"name": "a", "user": {"exec": {"command": "/nowhere", "apiVersion": "v1"}}}]},
            "the credential plugin /nowhere is not installed",
        ),
    ],
)
async def test_an_invalid_kubeconfig_is_reported_in_one_line(connect, tmp_path, content, text):
    path = tmp_path / "k"
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    with pytest.raises(KubernetesError) as caught:
        await get(connect(path))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_folder_is_refused_as_a_kubeconfig(connect, tmp_path):
    with pytest.raises(KubernetesError, match="Is a directory"):
        await get(connect(tmp_path))


async def test_an_encrypted_key_is_refused_without_asking_for_a_password(connect, secure_server, tmp_path):
    from cryptography.hazmat.primitives import serialization

    certificate, key = secure_server.authority.issue_client("jo")
    (tmp_path / "jo.pem").write_bytes(certificate)
    encrypted = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "jo.key").write_bytes(encrypted)
    user = {"client-certificate": "jo.pem", "client-key": "jo.key"}
    with pytest.raises(KubernetesError, match="certificates for the API server cannot be used"):
        await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))
