"""Every way to log in, against a server that checks the login; and renewals."""

import asyncio
import base64
import json
import os
import ssl
import stat
import sys
import tempfile
import time

import pytest
import yaml

from maesh_core.controller.kubernetes import credentials as module
from maesh_core.controller.kubernetes.credentials import Access, Credentials, find_access
from maesh_core.errors import KubernetesError, StartupError
from maesh_testing.api_server import FaultKind
from maesh_testing.commands import wait_until

from .logins import NODES, get


@pytest.fixture
def plugin(tmp_path):
    """Write a credential plugin that prints what the file `answer` says."""
    answer = tmp_path / "answer"
    program = tmp_path / "login"
    program.write_text(f"#!{sys.executable}\nimport os\nprint(os.path.expandvars(open({str(answer)!r}).read()))\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    version = "client.authentication.k8s.io/v1"

    def write(**status):
        answer.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
        return {"exec": {"apiVersion": version, "command": str(program), "interactiveMode": "Never"}}

    return write


async def test_a_kubeconfig_can_log_in_with_a_token(connect, secure_server, tmp_path):
    client = connect(secure_server.write_kubeconfig(tmp_path / "k"))
    assert (await get(client))["kind"] == "NodeList"
    assert repr(client) == f"<KubernetesClient {secure_server.url}>"


async def test_a_token_in_a_file_that_is_renewed(connect, secure_server, tmp_path):
    first, second = secure_server.add_token("first"), secure_server.add_token("second")
    (tmp_path / "token").write_text(first + "\n")
    client = connect(secure_server.write_kubeconfig(tmp_path / "k", user={"tokenFile": "token"}))
    await get(client)
    (tmp_path / "token").write_text(second)
    secure_server.expire_token(first)
    await get(client)
    secure_server.expire_token(second)
    with pytest.raises(KubernetesError, match="401 Unauthorized") as caught:
        await get(client)
    assert (caught.value.status, caught.value.reason) == (401, "Unauthorized")


async def test_a_refused_login_is_retried_once(connect, secure_server, tmp_path):
    client = connect(secure_server.write_kubeconfig(tmp_path / "k", token="unknown"))
    with pytest.raises(KubernetesError, match="401"):
        await get(client)
    assert len(secure_server.calls) == 2


async def test_a_watch_renews_an_expired_login_too(connect, secure_server, tmp_path):
    (tmp_path / "token").write_text(secure_server.add_token("old"))
    client = connect(secure_server.write_kubeconfig(tmp_path / "k", user={"tokenFile": "token"}))
    await get(client)
    secure_server.expire_token("old")
    (tmp_path / "token").write_text(secure_server.token)
    lines = client.watch_lines(NODES, {"watch": "true"}, silence_limit_s=10)
    assert await anext(lines) == []
    await lines.aclose()


@pytest.mark.parametrize("is_inline", [True, False])
async def test_a_kubeconfig_can_log_in_with_a_client_certificate(connect, secure_server, tmp_path, is_inline):
    certificate, key = secure_server.authority.issue_client("jo")
    secure_server.set_rules("jo", [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}])
    if is_inline:
        user = {
            "client-certificate-data": base64.b64encode(certificate).decode(),
            "client-key-data": base64.b64encode(key).decode(),
        }
    else:
        (tmp_path / "jo.pem").write_bytes(certificate)
        (tmp_path / "jo.key").write_bytes(key)
        user = {"client-certificate": "jo.pem", "client-key": "jo.key"}
    client = connect(secure_server.write_kubeconfig(tmp_path / "k", user=user))
    assert (await get(client))["items"] == []
    with pytest.raises(KubernetesError, match='403 pods is forbidden: User "jo" cannot list'):
        await client.get("/api/v1/pods")


async def test_a_kubeconfig_can_log_in_with_a_name_and_a_password(connect, secure_server, tmp_path):
    secure_server.add_password("jo", "se:cret")
    client = connect(secure_server.write_kubeconfig(tmp_path / "k", user={"username": "jo", "password": "se:cret"}))
    await get(client)


async def test_a_plugin_that_gives_tokens(connect, secure_server, tmp_path, plugin):
    token = secure_server.add_token("of-plugin")
    client = connect(secure_server.write_kubeconfig(tmp_path / "k", user=plugin(token=token)))
    await get(client)
    plugin(token=secure_server.add_token("next"))
    secure_server.expire_token(token)
    await get(client)


async def test_a_plugin_that_gives_certificates(connect, secure_server, tmp_path, plugin):
    certificate, key = secure_server.authority.issue_client("system:admin")
    user = plugin(clientCertificateData=certificate.decode(), clientKeyData=key.decode())
    await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exit 3", "ended with status 3"),
        ("echo no json", "did not print an ExecCredential"),
        ("echo '{}'", "did not print an ExecCredential"),
        ("echo 'login first' >&2; echo 'at acme.com' >&2; exit 1", "login first at acme.com"),
    ],
)
async def test_a_failing_exec_plugin_is_reported_in_one_line(connect, secure_server, tmp_path, script, text):
    program = tmp_path / "login"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}}
    with pytest.raises(KubernetesError) as caught:
        await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_hanging_exec_plugin_is_killed(connect, secure_server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOAD_LIMIT_S", 0.5)
    program = tmp_path / "login"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}}
    with pytest.raises(KubernetesError, match=r"could not be had within 0\.5 s"):
        await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))
    pid = (tmp_path / "pid").read_text().strip()
    await asyncio.to_thread(wait_until, lambda: not os.path.exists(f"/proc/{pid}"), "it has ended")


async def test_a_hanging_command_of_an_old_provider_is_killed(connect, secure_server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOAD_LIMIT_S", 0.5)
    program = tmp_path / "login"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    user = {"auth-provider": {"name": "gcp", "config": {"cmd-path": str(program), "cmd-args": "x"}}}
    with pytest.raises(KubernetesError, match=r"could not be had within 0\.5 s"):
        await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))
    pid = (tmp_path / "pid").read_text().strip()
    await asyncio.to_thread(wait_until, lambda: not os.path.exists(f"/proc/{pid}"), "it has ended")


async def test_an_old_provider_returns_its_token_or_an_error(connect, secure_server, tmp_path):
    user = {"auth-provider": {"name": "gcp", "config": {"access-token": secure_server.token}}}
    await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))
    user = {"auth-provider": {"name": "gcp", "config": {"expiry": "1"}}}
    with pytest.raises(KubernetesError, match=r"auth-provider: .*cmd-path"):
        await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))


async def test_requests_impersonate_the_user_that_the_kubeconfig_names(api_server, tmp_path):
    user = {
        "token": api_server.token,
        "as": "jo",
        "as-uid": "7",
        "as-groups": ["dev", "ops"],
        "as-user-extra": {"acme.com/scope": ["a", "b"], "none": None},
    }
    credentials = find_access(str(api_server.write_kubeconfig(tmp_path / "k", user=user)), "", {})
    assert (await credentials.get()).impersonation == (
        ("Impersonate-User", "jo"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-acme.com%2Fscope", "a"),
        ("Impersonate-Extra-acme.com%2Fscope", "b"),
    )


async def test_a_readable_token_file_precedes_the_token(connect, secure_server, tmp_path):
    (tmp_path / "token").write_text(secure_server.token)
    user = {"token": "unknown", "tokenFile": "token"}
    await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))
    user = {"token": secure_server.token, "tokenFile": "nowhere"}
    await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))
    user = {"token": "", "tokenFile": "nowhere"}
    with pytest.raises(KubernetesError, match=r"the token cannot be read: .*nowhere"):
        await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))


async def test_comments_in_a_certificate_authority_file_may_have_any_characters(connect, secure_server, tmp_path):
    (tmp_path / "ca.crt").write_bytes("# Zertifikat für Jö\n".encode() + secure_server.authority.pem)
    path = await edit_cluster(
        secure_server, tmp_path / "k", certificate_authority_data=None, certificate_authority="ca.crt"
    )
    await get(connect(path))


async def test_authorities_that_kubectl_accepts_are_accepted_by_every_python(secure_server, tmp_path):
    """From Python 3.13 on, a context is strict by default: an authority without a key identifier would be refused."""
    access = await find_access(str(secure_server.write_kubeconfig(tmp_path / "k")), "").get()
    assert access.tls is not None
    assert not access.tls.verify_flags & ssl.VERIFY_X509_STRICT


async def test_certificates_leave_no_files_behind(connect, secure_server, tmp_path, plugin, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    certificate, key = secure_server.authority.issue_client("system:admin")
    user = plugin(clientCertificateData=certificate.decode(), clientKeyData=key.decode())
    await get(connect(secure_server.write_kubeconfig(tmp_path / "k", user=user)))
    assert list((tmp_path / "temporary").iterdir()) == []


async def test_the_proxy_of_the_kubeconfig_precedes_that_of_the_environment(secure_server, tmp_path):
    environment = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "other.acme.com"}
    path, far = secure_server.write_kubeconfig(tmp_path / "k"), "https://api.acme.com"
    assert (await find_access(str(path), "", environment).get()).proxy is None, "the server is on this machine"
    assert (await find_access(str(path), far, environment).get()).proxy == "http://127.0.0.1:1"
    assert (await find_access(str(path), "https://other.acme.com", environment).get()).proxy is None
    assert (await find_access("", far, environment).get()).proxy == "http://127.0.0.1:1"
    path = await edit_cluster(secure_server, tmp_path / "k", proxy_url="http://127.0.0.1:2")
    assert (await find_access(str(path), "", environment).get()).proxy == "http://127.0.0.1:2"
    path = await edit_cluster(secure_server, tmp_path / "k", proxy_url="socks5://jo:secret@127.0.0.1:2")
    with pytest.raises(KubernetesError, match=r"the proxy socks5://127\.0\.0\.1:2 cannot be used") as caught:
        await find_access(str(path), "", environment).get()
    assert "secret" not in str(caught.value)


async def edit_cluster(server, path, **fields):
    document = yaml.safe_load(server.write_kubeconfig(path).read_text())
    cluster = document["clusters"][0]["cluster"]
    cluster.update({key.replace("_", "-"): value for key, value in fields.items()})
    document["clusters"][0]["cluster"] = {key: value for key, value in cluster.items() if value is not None}
    path.write_text(yaml.safe_dump(document))
    return path


async def test_a_server_with_another_certificate_authority_is_not_trusted(connect, secure_server, tmp_path):
    path = await edit_cluster(secure_server, tmp_path / "k", certificate_authority_data=None)
    with pytest.raises(KubernetesError, match=r"GET /api/v1/nodes: TLS: .*certificate verify failed") as caught:
        await get(connect(path))
    assert caught.value.status == 0
    assert secure_server.calls == []
    path = await edit_cluster(
        secure_server, tmp_path / "k", certificate_authority_data=None, insecure_skip_tls_verify=True
    )
    await get(connect(path))


async def test_the_kubeconfig_can_set_another_tls_server_name(connect, secure_server, tmp_path):
    path = await edit_cluster(secure_server, tmp_path / "k", tls_server_name="kubernetes.default.svc")
    await get(connect(path))
    path = await edit_cluster(secure_server, tmp_path / "k", tls_server_name="other.acme.com")
    with pytest.raises(KubernetesError, match="TLS: "):
        await get(connect(path))


async def test_plain_http_is_used_if_the_kubeconfig_says_so(connect, api_server, tmp_path):
    path = await edit_cluster(api_server, tmp_path / "k", tls_server_name="kubernetes.default.svc")
    await get(connect(path))


class Loads:
    """Gives accesses, and counts."""

    def __init__(self):
        self.count, self.error, self.now = 0, None, 0.0

    async def __call__(self):
        self.count += 1
        if self.error:
            raise self.error
        return Access(server=f"http://{self.count}")

    def clock(self):
        return self.now


async def test_credentials_are_read_again_after_a_minute():
    loads = Loads()
    credentials = Credentials(loads, clock=loads.clock)
    assert [(await credentials.get()).server for _ in range(2)] == ["http://1"] * 2
    loads.now = module.RELOAD_S + 1
    assert (await credentials.get()).server == "http://2"


async def test_the_current_login_is_used_while_a_new_one_cannot_be_loaded():
    loads = Loads()
    credentials = Credentials(loads, clock=loads.clock)
    first = await credentials.get()
    loads.now, loads.error = module.RELOAD_S + 1, StartupError("no plugin")
    assert [await credentials.get() for _ in range(3)] == [first] * 3
    assert loads.count == 2
    loads.now *= 2
    loads.error = None
    assert (await credentials.get()).server == "http://3"


async def test_a_refused_login_is_renewed_once_for_all_waiting_requests():
    loads = Loads()
    credentials = Credentials(loads, clock=loads.clock)
    first = await credentials.get()
    assert [(await credentials.renew(first)).server for _ in range(3)] == ["http://2"] * 3
    loads.error = StartupError("no plugin")
    with pytest.raises(KubernetesError, match="no plugin"):
        await credentials.renew(await credentials.get())


async def test_a_failure_to_load_is_reported_at_the_first_request():
    loads = Loads()
    loads.error = StartupError("no plugin")
    credentials = Credentials(loads, clock=time.monotonic)
    with pytest.raises(KubernetesError, match="no plugin"):
        await credentials.get()
    loads.error = None
    assert (await credentials.get()).server == "http://2"
    assert "http://2" in repr(credentials)


async def test_a_single_401_is_retried_and_not_reported(connect, secure_server, tmp_path):
    client = connect(secure_server.write_kubeconfig(tmp_path / "k"))
    secure_server.add_fault(FaultKind.STATUS, status=401, reason="Unauthorized", count=1)
    await get(client)
    secure_server.clear_faults()
