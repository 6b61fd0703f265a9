import msgspec
import pytest

from maesh_core.controller.cluster_check.running import MeshCheck
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings.check import CheckSettings


@pytest.fixture
def check(tmp_path):
    """Run all checks once; return the report and the outcomes by id."""

    async def run(server=None, **fields):
        if server is not None:
            fields["kubeconfig"] = str(server.write_kubeconfig(tmp_path / "config"))

        async def pause(_):
            pass

        report = await MeshCheck(CheckSettings(cluster=True, **fields), list_installed(), pause=pause).run()
        return report, {each.id: each for section in report.sections for each in section.checks}

    return run


async def test_a_cluster_without_a_mesh_says_what_is_missing(api_server, check):
    report, found = await check(api_server)
    assert not report.success
    assert (found["api-reachable"].result, found["api-version"].details) == ("success", ("v1.34.0",))
    assert found["namespace-exists"].result == "error"
    assert found["dns-configured"].result == "error"
    assert found["core-kinds"].result == "success"
    assert found["controllers-answer"].result == "error"
    assert found["controller-permissions"].result == "skipped"
    assert found["user-permissions"].result == "success"


async def test_an_api_server_that_is_away_is_the_only_failure(api_server, check):
    api_server.stop_listening()
    report, found = await check(api_server)
    assert report.count("error") == 1
    assert found["api-reachable"].result == "error"
    assert {each.details for name, each in found.items() if name != "api-reachable"} == {
        ("the API server does not answer",)
    }
    api_server.resume()


async def test_an_endpoint_needs_no_cluster(check, unused_tcp_port):
    report, found = await check(endpoint=f"http://127.0.0.1:{unused_tcp_port}")
    assert [section.name for section in report.sections] == ["controllers", "proxies", "services and objects"]
    assert found["controllers-answer"].result == "error"


async def test_an_old_or_odd_version_of_kubernetes_is_named(api_server, check, monkeypatch):
    from maesh_testing.kubernetes import discovery

    monkeypatch.setitem(discovery.VERSION, "gitVersion", "v1.20.4-gke")
    _, found = await check(api_server)
    assert (found["api-version"].result, found["api-version"].details) == ("error", ("v1.20.4-gke is older than 1.22",))
    monkeypatch.setitem(discovery.VERSION, "gitVersion", "main")
    _, found = await check(api_server)
    assert found["api-version"].result == "warning"


async def test_a_running_mesh_is_well(start_mesh, check):
    mesh = start_mesh()
    report, found = await check(endpoint=f"http://127.0.0.1:{mesh.api_port}")
    assert report.success, report
    assert found["one-leader"].result == found["proxies-accept"].result == "success"
    assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report


async def test_what_plugins_say_about_a_running_mesh_is_a_warning_with_a_hint(start_mesh, check):
    mesh = start_mesh("--acl", "--set", "acl.mode=audit")
    report, found = await check(endpoint=f"http://127.0.0.1:{mesh.api_port}")
    audited = found["access-enforced"]
    assert (report.success, audited.result) == (True, "warning")
    assert audited.details == ("access control is in audit mode (acl.mode=audit), so it denies nothing",)
    assert audited.hint.startswith("When maesh acl report shows nothing")
    assert audited.docs == "docs/check-cluster.md#access-enforced"


async def test_who_may_read_nothing_gets_warnings_and_no_failure_for_that(api_server, check):
    api_server.set_rules(api_server.token, [])
    _, found = await check(api_server)
    for name in ("namespace-exists", "dns-configured", "shadow-services", "lease-renewed"):
        assert found[name].result == "warning", found[name]
        assert found[name].details[0].startswith("this could not be checked: "), found[name]
    assert found["user-permissions"].result == "error"
    assert found["core-kinds"].result == "success", "all who have logged in may read what is served"
