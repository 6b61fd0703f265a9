"""`maesh diff` as a user types it: on folders and on revisions of a repository, as text and as JSON."""

import json
import subprocess

import pytest

from maesh_core.cli.app import run_command_line

ACL = "examples/acl/acl.yaml"

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def diff(capsys):
    """Run the command; return status, output and errors."""

    def run(*arguments):
        status = run_command_line(["diff", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def folders(tmp_path, pytestconfig):
    """Write the example of access control, and the same with one more method allowed."""
    text = (pytestconfig.rootpath / ACL).read_text()
    for name, content in (("old", text), ("new", text.replace("[GET, HEAD]", "[GET, HEAD, PUT]"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "acl.yaml").write_text(content)
    return tmp_path / "old", tmp_path / "new"


def test_equal_states_are_said_to_be_equal(diff, folders):
    status, out, error = diff(folders[0], folders[0], "--acl", "--fail-on", "changes")
    assert (status, error) == (0, "")
    assert out == f"No change for traffic between {folders[0]} and {folders[0]}.\n"


def test_opened_access_is_a_warning_with_an_example(diff, folders):
    status, out, error = diff(*folders, "--acl")
    assert (status, error) == (0, "")
    assert out.splitlines()[:4] == [
        "Access",
        "  OPENED  acl/web -> acl/products:80  PUT /products",
        "    was  denied 403: TrafficTarget web-may-read@acl allows the client, but not this request: no match applies"
        " to it",
        "    now  goes to acl/products:80 100% (acl: TrafficTarget web-may-read@acl allows it)",
    ]
    assert out.splitlines()[-1] == "1 opened (warning)"


@pytest.mark.parametrize(
    ("fail_on", "forward", "back"),
    [("never", 0, 0), ("opens-access", 3, 0), ("closes-access", 3, 3), ("changes", 3, 3)],
)
def test_the_exit_status_says_what_differs(diff, folders, fail_on, forward, back):
    assert diff(*folders, "--acl", "--fail-on", fail_on)[0] == forward
    assert diff(*reversed(folders), "--acl", "--fail-on", fail_on)[0] == back


def test_json_has_the_same_for_programs(diff, folders):
    _, out, _ = diff(*folders, "--acl", "--json")
    (change,) = json.loads(out)["access"]
    assert (change["change"], change["level"], change["clients"]) == ("opens", "warning", ["acl/web"])
    assert (change["old"]["status"], change["new"]["outcome"]) == (403, "allowed")


def test_a_revision_is_compared_with_the_files(diff, folders, monkeypatch):
    root = folders[0].parent
    monkeypatch.chdir(root)
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.com")
    subprocess.run([*git, "init", "-q", "."], check=True)
    subprocess.run([*git, "add", "old"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    (root / "old/acl.yaml").write_text((root / "new/acl.yaml").read_text())
    status, out, error = diff("git:HEAD", "old", "--acl", "--fail-on", "opens-access")
    assert (status, error) == (3, "")
    assert "OPENED  acl/web -> acl/products:80  PUT /products" in out
    assert diff("git:HEAD:old", "git:HEAD:old", "--acl", "--fail-on", "changes")[0] == 0


def test_a_file_of_a_revision_that_cannot_be_read_is_named_by_the_revision(diff, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("a: [")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.com")
    for command in (("init", "-q", "."), ("add", "."), ("commit", "-qm", "first")):
        subprocess.run([*git, *command], check=True)
    _, out, _ = diff("git:HEAD", "git:HEAD")
    assert "  old: git:HEAD/bad.yaml document 1 line 2: not YAML" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("cluster", "cluster"), "OLD and NEW are both cluster"),
        (("git:", "."), "the revision is missing"),
        (("/nonexistent", "/nonexistent"), "/nonexistent: no such file or folder"),
        (("", "x"), "OLD and NEW must each name a path"),
    ],
)
def test_what_cannot_be_compared_is_one_line(diff, arguments, text):
    status, out, error = diff(*arguments)
    assert (status, out) == (1, "")
    assert text in error
    assert error.count("\n") == 1
