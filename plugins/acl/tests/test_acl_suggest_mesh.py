"""From the traffic of a real mesh to rules that a real mesh enforces."""

import pytest

from maesh_testing import build_pod, send_request

WEB, BATCH, OTHER, SERVER = "127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.2.1"
PODS = [build_pod("web", WEB, "web"), build_pod("batch", BATCH, "batch"), build_pod("other", OTHER, "other")]
ALLOWED = [
    *((WEB, "GET", f"/users/{number}") for number in range(6)),
    (WEB, "POST", "/orders?draft=1"),
    (BATCH, "DELETE", "/orders/a.b"),
]
DENIED = [(WEB, "GET", "/orders"), (WEB, "GET", "/users/1/keys"), (BATCH, "DELETE", "/orders/axb"), (OTHER, "GET", "/")]


@pytest.fixture
def start_with_pods(start_mesh, start_upstream):
    def start(*flags, objects=PODS):
        return start_mesh(*flags, servers=[start_upstream("app-1", SERVER)], account="server", objects=objects)

    return start


def list_statuses(mesh, requests):
    return {mesh.send(method, path, client=client).status for client, method, path in requests}


def test_an_access_log_becomes_rules_under_which_only_that_traffic_passes(start_with_pods, run_maesh, tmp_path):
    log = tmp_path / "access.log"
    flags = ("--access-log", "--set", "access-log.format=json", "--set", f"access-log.file={log}")
    mesh = start_with_pods(*flags)
    assert list_statuses(mesh, ALLOWED) == {200}
    mesh.wait_until(lambda: log.is_file() and log.read_text().count("\n") == len(ALLOWED), "every line of the log")
    assert list_statuses(mesh, DENIED) == {200}, "without access control everything passes"
    recorded = tmp_path / "recorded.log"
    recorded.write_text("".join(line + "\n" for line in log.read_text().splitlines()[: len(ALLOWED)]))
    found = run_maesh("acl", "suggest", "--manifests", mesh.manifests.path, "--from", recorded)
    assert found.status == 0, found.stderr
    mesh.manifests.write("rules.yaml", found.stdout)
    guarded = start_with_pods("--acl")
    assert list_statuses(guarded, ALLOWED) == {200}
    assert list_statuses(guarded, DENIED) == {403}


def test_audit_mode_becomes_rules_that_are_then_enforced(start_with_pods, run_maesh):
    mesh = start_with_pods("--acl", "--set", "acl.mode=audit")
    assert list_statuses(mesh, ALLOWED) == {200}

    def read(path="/api/acl/suggestions"):
        return send_request(mesh.api_port, path=path).json

    mesh.wait_until(lambda: len(read("/api/acl/denials")["denials"]) == len(ALLOWED), "every denial in the report")
    found = run_maesh("acl", "suggest", "--endpoint", f"http://127.0.0.1:{mesh.api_port}")
    assert found.status == 0, found.stderr
    page = mesh.wait_until(lambda: (document := read())["suggestions"] and document, "suggestions on the page")
    assert {each["name"] in found.stdout for each in page["suggestions"]} == {True}
    mesh.manifests.write("rules.yaml", found.stdout)
    mesh.wait_until(lambda: not read()["suggestions"], "nothing that is missing")
    guarded = start_with_pods("--acl")
    assert list_statuses(guarded, ALLOWED) == {200}
    assert list_statuses(guarded, DENIED) == {403}
