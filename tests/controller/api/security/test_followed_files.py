"""Files that are replaced while the controller runs."""

import logging

import pytest

from maesh_core.controller.api.security.followed_files import LIMIT_BYTES, PAUSE_S, FollowedFiles
from maesh_core.errors import StartupError


class Content:
    """What uses the files; `no` is refused."""

    def __init__(self, *paths):
        self.used = []
        self.files = FollowedFiles("the thing", list(map(str, paths)), self.use, flag="--thing")

    def use(self, contents):
        if b"no" in contents:
            raise ValueError("no good")
        self.used.append(list(contents))


def test_contents_are_used_again_only_if_one_differs(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    content = Content(one, other)
    content.files.load()
    content.files.look()
    assert (content.used, caplog.messages) == ([[b"1", b"2"]], [])
    other.write_text("3")
    content.files.look()
    content.files.look()
    assert content.used[1:] == [[b"1", b"3"]]
    assert caplog.messages == ["the thing was replaced"]


def test_what_cannot_be_used_is_logged_once_and_changes_nothing(tmp_path, caplog):
    path = tmp_path / "one"
    path.write_text("1")
    content = Content(path)
    content.files.load()
    for text in ("no", None, "2", "no"):
        path.unlink()
        if text is not None:
            path.write_text(text)
        content.files.look()
        content.files.look()
        if text is None:
            path.write_text("")
    assert content.used == [[b"1"], [b"2"]]
    prefix = "the thing cannot be used, so the earlier one stays in use: "
    assert [line.removeprefix(prefix) for line in caplog.messages] == [
        "no good",
        f"{path}: No such file or directory",
        "no good",
    ]


@pytest.mark.parametrize(
    ("text", "expected"), [(None, "No such file"), ("no", "no good"), ("x" * (LIMIT_BYTES + 1), "is larger than")]
)
def test_what_cannot_be_used_at_first_stops_the_start(tmp_path, text, expected):
    path = tmp_path / "one"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StartupError, match=rf"the thing cannot be used \(--thing\): .*{expected}"):
        Content(path).files.load()


async def test_it_looks_after_each_pause(tmp_path):
    path = tmp_path / "one"
    path.write_text("1")
    content = Content(path)
    content.files.load()
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)
        path.write_text(str(len(pauses)))
        if len(pauses) == 3:
            raise EOFError

    with pytest.raises(EOFError):
        await content.files.follow(pause)
    assert (content.used, pauses) == ([[b"1"], [b"2"]], [PAUSE_S] * 3)
