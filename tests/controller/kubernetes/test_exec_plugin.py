"""Credential plugins are asked as client-go asks them, and what they print is checked."""

import json
import os

import pytest

from maesh_core.controller.kubernetes.exec_plugin import Status, run_plugin
from maesh_core.controller.kubernetes.kubeconfig import EXEC_EXTENSION, Cluster, ExecPlugin, Extension, Variable
from maesh_core.errors import StartupError

VERSION = "client.authentication.k8s.io/v1"
CLUSTER = Cluster(
    server="https://a",
    tls_server_name="b",
    proxy_url="http://c",
    extensions=[Extension(EXEC_EXTENSION, {"audience": "d"}), Extension("other", 1)],
)
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def build_answer(**status):
    return json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})


@pytest.fixture
def make(tmp_path):
    """Make a plugin of a shell script."""

    def make_plugin(script, **fields):
        path = tmp_path / "plugin"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return ExecPlugin(api_version=VERSION, command=fields.pop("command", str(path)), **fields)

    return make_plugin


@pytest.fixture
def ask(make, tmp_path):
    """Run a plugin that writes down what it is asked for; return that."""

    async def run(cluster=CLUSTER, *, has_terminal=False, authority=None, **fields):
        script = f"printf %s \"$KUBERNETES_EXEC_INFO\" > {tmp_path}/asked; echo '{build_answer(token='t')}'"
        plugin = make(script, **fields)
        await run_plugin(plugin, cluster, ENVIRONMENT, has_terminal=has_terminal, authority=authority)
        return json.loads((tmp_path / "asked").read_text())

    return run


async def test_a_plugin_gets_its_arguments_and_variables_beside_those_of_the_process(make):
    plugin = make('printf \'{"apiVersion":"%s","kind":"ExecCredential","status":{"token":"%s"}}\' "$1" "$A$B$2"')
    plugin = ExecPlugin(VERSION, plugin.command, args=[VERSION, "3"], env=[Variable("A", "1"), Variable("C")])
    assert (await run_plugin(plugin, CLUSTER, ENVIRONMENT | {"A": "0", "B": "2"})).token == "123"


async def test_a_bare_name_is_looked_up_in_path(make, tmp_path):
    plugin = make(f"echo '{build_answer(token='t')}'", command="plugin")
    environment = {"PATH": f"/nowhere:{tmp_path}"}
    assert await run_plugin(plugin, CLUSTER, environment) == Status(token="t")
    with pytest.raises(StartupError, match=r"the credential plugin plugin is not installed$"):
        await run_plugin(plugin, CLUSTER, {"PATH": "/nowhere"})


@pytest.mark.parametrize("command", ["no-such-plugin", "/nowhere/no-such-plugin"])
async def test_the_hint_to_install_a_missing_plugin_is_shown_in_one_line(make, command):
    plugin = make("", command=command, install_hint="It is missing.\n\n  Run: install it\n")
    expected = f"the credential plugin {command} is not installed: It is missing. Run: install it"
    with pytest.raises(StartupError) as caught:
        await run_plugin(plugin, CLUSTER, ENVIRONMENT)
    assert str(caught.value) == expected


async def test_a_plugin_that_may_not_be_run_says_why(make, tmp_path):
    plugin = make("")
    (tmp_path / "plugin").chmod(0o644)
    with pytest.raises(StartupError, match="cannot be run: Permission denied"):
        await run_plugin(plugin, CLUSTER, ENVIRONMENT)


async def test_a_plugin_gets_its_cluster_only_if_it_asks(ask):
    assert (await ask(provide_cluster_info=True, authority=b"pem"))["spec"] == {
        "interactive": False,
        "cluster": {
            "server": "https://a",
            "tls-server-name": "b",
            "proxy-url": "http://c",
            "certificate-authority-data": "cGVt",
            "config": {"audience": "d"},
        },
    }
    found = await ask(Cluster(server="https://a", insecure_skip_tls_verify=True), provide_cluster_info=True)
    assert found["spec"]["cluster"] == {"server": "https://a", "insecure-skip-tls-verify": True}
    assert await ask() == {"apiVersion": VERSION, "kind": "ExecCredential", "spec": {"interactive": False}}


@pytest.mark.parametrize(
    ("mode", "has_terminal", "is_interactive"),
    [
        (None, True, True),
        (None, False, False),
        ("IfAvailable", True, True),
        ("IfAvailable", False, False),
        ("Never", True, False),
        ("Always", True, True),
    ],
)
async def test_a_person_is_asked_where_the_mode_allows_it(ask, mode, has_terminal, is_interactive):
    found = await ask(interactive_mode=mode, has_terminal=has_terminal)
    assert found["spec"]["interactive"] is is_interactive


@pytest.mark.parametrize(
    ("mode", "text"), [("Always", "needs a terminal"), ("Sometimes", "has the interactiveMode 'Sometimes'")]
)
async def test_a_mode_that_cannot_be_is_refused_before_the_plugin_runs(ask, tmp_path, mode, text):
    with pytest.raises(StartupError, match=text):
        await ask(interactive_mode=mode)
    assert not (tmp_path / "asked").exists()


async def test_without_a_terminal_standard_input_is_empty(make):
    plugin = make(f"cat; echo '{build_answer(token='t')}'")
    assert await run_plugin(plugin, CLUSTER, ENVIRONMENT, has_terminal=False)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("no json", "did not print an ExecCredential: "),
        ("", "did not print an ExecCredential: "),
        ("{}", "missing required field `apiVersion`"),
        ("null", "did not print an ExecCredential: "),
        (build_answer(), "printed neither a token nor a certificate"),
        (build_answer(token=5), "did not print an ExecCredential: "),
        (build_answer(clientCertificateData="c"), "printed a certificate without its key"),
        (build_answer(token="t", clientKeyData="k"), "a key without its certificate"),
        (build_answer(token="t").replace("/v1", "/v1beta1"), "v1beta1 ExecCredential' instead"),
        (build_answer(token="t").replace("ExecC", "C"), "Credential' instead"),
    ],
)
async def test_an_answer_that_is_none_is_refused(make, answer, text):
    with pytest.raises(StartupError) as caught:
        await run_plugin(make(f"echo '{answer}'"), CLUSTER, ENVIRONMENT)
    assert text in str(caught.value)


async def test_a_token_and_a_certificate_may_come_together(make):
    answer = build_answer(token="t", clientCertificateData="c", clientKeyData="k", expirationTimestamp="2020")
    found = await run_plugin(make(f"echo '{answer}'; echo chatter >&2"), CLUSTER, ENVIRONMENT)
    assert found == Status(token="t", client_certificate_data="c", client_key_data="k")
