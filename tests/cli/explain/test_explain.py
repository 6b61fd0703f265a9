"""`maesh explain` as a user types it: from manifests and from a running mesh, as text and as JSON."""

import json

import pytest

from maesh_core.cli.app import run_command_line
from maesh_testing import build_service

pytestmark = pytest.mark.integration


@pytest.fixture
def explain(capsys, tmp_path, restored_logging):
    """Write a service's manifests, run the command over them; return status, output and errors."""

    def run(*arguments):
        path = tmp_path / "app.json"
        items = build_service("app", [("127.0.0.9", 8080)], account="server")
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        status = run_command_line(["explain", *arguments, "--manifests", str(path)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_manifests_alone_are_enough(explain, tmp_path):
    status, out, error = explain("test/app-0", "app.test")
    assert (status, error) == (0, "")
    assert out.splitlines() == [
        "client pod test/app-0 at 127.0.0.9, service account server@test",
        "service test/app, port 80, traffic type http",
        "it is allowed, and goes to",
        "  test/app:80  100.00%  127.0.0.9:8080  http (default)",
    ]
    assert not list(tmp_path.glob("**/port-mapping*"))


def test_json_has_the_same_for_programs(explain):
    status, out, _ = explain("127.0.0.9", "test/app", "--json")
    found = json.loads(out)
    assert (status, found["isAdmitted"], found["status"]) == (0, True, 200)
    assert found["destinations"] == [
        {"service": "test/app:80", "share": 1.0, "servers": ["127.0.0.9:8080"], "scheme": "http"}
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("test/app-0", "nothing.test"), "the mesh knows no service nothing in namespace test"),
        (("test/app-0", "app.test", "--port", "81"), "service app has no port 81; its ports: 80/tcp"),
        (("test/app-0", "app.test", "--header", "nonsense"), "--header: 'nonsense' is not NAME: VALUE"),
        (("test/app-0", "app.test", "get"), "METHOD: 'get' is not GET: methods are case-sensitive"),
        (("test/app-0", "app.test", "G ET"), "METHOD: 'G ET' is not a method such as GET"),
        (("test/app-0", "app.test", ""), "METHOD: '' is not a method such as GET"),
        (("test/app-0", "app.test", "GET", "orders"), "PATH: 'orders' does not begin with /"),
        (("test/app-0", "app.test", "--set", "acl.x=1"), "acl"),
    ],
)
def test_what_cannot_be_answered_is_one_line(explain, arguments, text):
    status, out, error = explain(*arguments)
    assert (status, out) == (1, "")
    assert text in error
    assert error.count("\n") == 1


def test_without_a_controller_it_says_what_else_there_is(capsys, restored_logging):
    assert run_command_line(["explain", "a/b", "c.d", "--endpoint", "http://127.0.0.1:1"]) == 1
    assert "or use --manifests" in capsys.readouterr().err
    assert run_command_line(["explain", "a/b", "c.d", "--endpoint", "ftp://x"]) == 1
    assert "is not the URL of a controller" in capsys.readouterr().err


def test_a_running_mesh_is_asked_by_its_api(start_mesh, run_maesh):
    mesh = start_mesh()
    command = run_maesh("explain", "127.0.0.1", "app.test", "--endpoint", f"http://127.0.0.1:{mesh.api_port}")
    assert command.status == 0
    assert "it is allowed, and goes to" in command.stdout


def test_what_is_no_controller_is_said_to_be_none(start_upstream, capsys, restored_logging):
    upstream = start_upstream("something else")
    for body in (b"something else", b"[]", b"{}", b'{"services": {}, "pods": {}}'):
        upstream.body = body
        status = run_command_line(["explain", "a/b", "c.d", "--endpoint", f"http://127.0.0.1:{upstream.port}"])
        captured = capsys.readouterr()
        assert (status, captured.out) == (1, "")
        assert "the server is not a controller" in captured.err
        assert captured.err.count("\n") == 1


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "stranger", "namespace": "other"},
    "spec": {"serviceAccountName": "nobody"},
    "status": {"podIP": "127.0.0.77", "podIPs": [{"ip": "127.0.0.77"}, {"ip": "FD00:0::77"}]},
}
SPELLINGS = (
    *("stranger.other", "other/stranger", "stranger@other"),
    *("127.0.0.77", "::ffff:127.0.0.77", "fd00::77", "FD00::0077"),
)


def test_a_pod_that_nothing_names_is_known_by_a_controller_and_from_manifests_alike(
    start_mesh, capsys, restored_logging
):
    mesh = start_mesh(objects=[POD])
    for flags in (["--manifests", str(mesh.manifests.path)], ["--endpoint", f"http://127.0.0.1:{mesh.api_port}"]):
        for spelling in SPELLINGS:
            status = run_command_line(["explain", spelling, "app.test", *flags])
            captured = capsys.readouterr()
            assert status == 0, captured.err
            assert "client pod other/stranger at " in captured.out
            assert "service account nobody@other" in captured.out
        status = run_command_line(["explain", "other/strange", "app.test", *flags])
        captured = capsys.readouterr()
        assert (status, captured.out) == (1, "")
        assert captured.err == (
            "maesh: error: there is no pod strange in namespace other; did you mean other/stranger?\n"
        )
