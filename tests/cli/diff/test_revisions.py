"""The manifests of a revision are written to a folder: no links, nothing outside, and never by a checkout."""

import subprocess

import pytest

from maesh_core.cli.diff import revisions
from maesh_core.cli.diff.revisions import write_revision
from maesh_core.errors import StartupError


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments], check=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Make a repository with one commit, and change to its folder `sub`."""
    root = tmp_path / "repository"
    (root / "sub/deep").mkdir(parents=True)
    monkeypatch.chdir(root)
    git("init", "-q", ".")
    for name, text in {"sub/a.yaml": "a: 1", "sub/deep/b.yaml": "b: 1", "sub/c.txt": "c", "top.json": "{}"}.items():
        (root / name).write_text(text)
    (root / "sub/link.yaml").symlink_to("/etc/passwd")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.chdir(root / "sub")
    return root


def list_written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_has_its_manifests_without_links_and_other_files(repository, tmp_path):
    target = write_revision("HEAD", ".", tmp_path / "out", is_recursive=False)
    assert list_written(target) == ["a.yaml"]
    assert (target / "a.yaml").read_text() == "a: 1"
    assert list_written(write_revision("HEAD", ".", tmp_path / "all", is_recursive=True)) == ["a.yaml", "deep/b.yaml"]


def test_a_path_is_relative_to_the_working_directory_or_absolute(repository, tmp_path):
    target = write_revision("HEAD", "c.txt", tmp_path / "out", is_recursive=False)
    assert target.read_text() == "c"
    assert write_revision("HEAD", "../top.json", tmp_path / "up", is_recursive=False).read_text() == "{}"
    absolute = write_revision("HEAD", str(repository / "sub"), tmp_path / "absolute", is_recursive=False)
    assert list_written(absolute) == ["a.yaml"]


@pytest.mark.parametrize(
    ("revision", "path", "text"),
    [
        ("nothing", ".", "git cannot read nothing: no such revision"),
        ("--output=x", ".", "no such revision"),
        ("HEAD", "missing", "no such file or folder in this revision"),
        ("HEAD", "../../x", "is outside of the git repository"),
    ],
)
@pytest.mark.usefixtures("repository")
def test_what_is_not_there_is_an_error(tmp_path, revision, path, text):
    with pytest.raises(StartupError, match=text):
        write_revision(revision, path, tmp_path / "out", is_recursive=False)


@pytest.mark.usefixtures("repository")
def test_the_size_of_all_files_together_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(revisions, "BYTES_LIMIT", 7)
    with pytest.raises(StartupError, match="its files have more than 7 bytes"):
        write_revision("HEAD", ".", tmp_path / "out", is_recursive=True)
    assert list_written(write_revision("HEAD", ".", tmp_path / "out", is_recursive=False)) == ["a.yaml"]


def test_without_a_repository_git_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(StartupError, match="git cannot read HEAD"):
        write_revision("HEAD", ".", tmp_path / "out", is_recursive=False)
