import os

import pytest

from maesh_core.controller.discovery.manifests import files
from maesh_core.controller.discovery.manifests.files import build_root, list_files, read_content, read_signature
from maesh_core.errors import ManifestError


@pytest.fixture
def tree(tmp_path):
    for name in (
        "a.yaml",
        "b.yml",
        "c.json",
        "d.txt",
        ".e.yaml",
        "f.yaml~",
        "sub/g.yaml",
        "sub/deep/h.json",
        ".git/i.yaml",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def list_names(path, *, is_recursive=False):
    root = build_root(str(path), is_recursive=is_recursive)
    return sorted(os.path.relpath(found, path) for found in list_files(root))


def test_a_folder_gives_its_manifests_and_not_those_below(tree):
    assert list_names(tree) == ["a.yaml", "b.yml", "c.json"]


def test_a_folder_gives_those_below_when_asked_but_nothing_hidden(tree):
    assert list_names(tree, is_recursive=True) == ["a.yaml", "b.yml", "c.json", "sub/deep/h.json", "sub/g.yaml"]


def test_links_to_folders_are_not_followed(tree):
    (tree / "sub" / "loop").symlink_to(tree)
    (tree / "sub" / "twin").symlink_to(tree / "sub" / "deep")
    assert list_names(tree / "sub", is_recursive=True) == ["deep/h.json", "g.yaml"]


def test_what_is_listed_is_what_a_root_holds(tree):
    for is_recursive in (False, True):
        root = build_root(str(tree), is_recursive=is_recursive)
        everything = [os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names]
        assert {path for path in everything if root.holds(path)} == set(list_files(root))


def test_a_named_file_may_have_any_suffix(tree):
    root = build_root(str(tree / "d.txt"), is_recursive=False)
    assert list(list_files(root)) == [str(tree / "d.txt")]
    assert root.holds(str(tree / "d.txt"))
    assert not root.holds(str(tree / "a.yaml"))


def test_paths_are_shown_as_they_were_given(tree, monkeypatch):
    monkeypatch.chdir(tree)
    for given, shown in (("sub", "sub/g.yaml"), ("sub/", "sub/g.yaml"), ("./sub", "./sub/g.yaml"), ("sub/g.yaml",) * 2):
        root = build_root(given, is_recursive=False)
        assert root.show(str(tree / "sub" / "g.yaml")) == shown


def test_a_hostile_name_is_shown_on_one_line_and_in_utf8(tmp_path):
    root = build_root(str(tmp_path), is_recursive=False)
    shown = root.show(f"{tmp_path}/a\n\x1b[31m{os.fsdecode(b'%c' % 0xFF)}.yaml")
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert shown.encode("utf-8").endswith(b"\\xff.yaml")


def test_the_signature_tells_writing_and_replacing_apart(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("1")
    first = read_signature(str(path))
    path.write_text("22")
    second = read_signature(str(path))
    assert first != second
    assert first.is_same_file(second)
    (tmp_path / "b").write_text("22")
    os.replace(tmp_path / "b", path)
    assert not second.is_same_file(read_signature(str(path)))
    path.unlink()
    assert read_signature(str(path)) is None


@pytest.fixture
def odd_file(tmp_path):
    def make(what):
        path = tmp_path / "a.yaml"
        if what == "fifo":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        elif what == "dangling link":
            path.symlink_to("nothing")
        elif what == "link to itself":
            path.symlink_to(path)
        elif what == "device":
            path.symlink_to("/dev/zero")
        return str(path)

    return make


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("fifo", "is not a regular file"),
        ("folder", "is not a regular file"),
        ("device", "is not a regular file"),
        ("dangling link", "is a broken link"),
        ("link to itself", "cannot be read"),
        ("nothing", "cannot be read: No such file"),
    ],
)
def test_what_is_no_file_is_refused_without_waiting(odd_file, what, text):
    path = odd_file(what)
    with pytest.raises(ManifestError, match=text) as caught:
        read_content(path, "shown")
    assert caught.value.origin == "shown"
    assert (read_signature(path) is None) == (what == "nothing")


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "a.yaml"
    with path.open("wb") as file:
        file.truncate(files.MAX_FILE_BYTES + 1)
    with pytest.raises(ManifestError, match="the limit is"):
        read_content(str(path), "shown")


def test_a_file_that_grows_while_it_is_read_is_cut_off(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    path.write_text("12345")
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 4)
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0o100644, 1, 1, 1, 0, 0, 4, 0, 0, 0)))
    with pytest.raises(ManifestError, match="grew above"):
        read_content(str(path), "shown")
