"""The file that keeps a configuration: written whole, and taken only if it is what it says."""

# ruff: noqa: ASYNC240 - nothing else runs in the loop of a test

import os
from pathlib import Path

import msgspec
import pytest

from maesh_core.proxy.node import configuration_cache
from maesh_core.proxy.node.configuration_cache import ConfigurationCache

ENDPOINT = "http://controller:9000/api"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


async def test_what_was_stored_is_loaded_and_only_its_owner_may_read_it(path: Path) -> None:
    cache = ConfigurationCache(path, endpoint=ENDPOINT)
    for body in (b'{"a": 1}\n{"b": 2}', b"x" * 100_000, b""):
        await cache.store(body)
        assert await ConfigurationCache(path, endpoint=ENDPOINT).load() == body
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]


async def test_no_file_is_no_configuration_and_no_complaint(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert await ConfigurationCache(path, endpoint=ENDPOINT).load() is None
    assert caplog.records == []


async def test_a_file_that_is_cut_or_changed_anywhere_is_ignored(path: Path) -> None:
    await ConfigurationCache(path, endpoint=ENDPOINT).store(b"configuration")
    good = path.read_bytes()
    for at in range(len(good)):
        for bad in (good[:at], good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]):
            path.write_bytes(bad)
            assert await ConfigurationCache(path, endpoint=ENDPOINT).load() is None


async def test_a_configuration_of_another_controller_is_ignored_and_replaced(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await ConfigurationCache(path, endpoint="http://other").store(b"x")
    cache = ConfigurationCache(path, endpoint=ENDPOINT)
    assert await cache.load() is None
    assert "from another controller" in caplog.text
    await cache.store(b"y")
    assert await cache.load() == b"y"


@pytest.mark.parametrize("content", [b"root:x:0:0\n", b"{}\n", b"\xff\x00", b"[" * 5000, b"null"])
async def test_a_file_of_another_kind_is_never_written_to(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    cache = ConfigurationCache(path, endpoint=ENDPOINT)
    assert await cache.load() is None
    await cache.store(b"x")
    assert path.read_bytes() == content


async def test_what_is_too_large_is_neither_written_nor_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ConfigurationCache(path, endpoint=ENDPOINT)
    await cache.store(b"12345")
    monkeypatch.setattr(configuration_cache, "BODY_LIMIT_BYTES", 4)
    assert await cache.load() is None
    await cache.store(b"123456")
    assert msgspec.json.decode(path.read_bytes().splitlines()[0])["format"] == configuration_cache.FORMAT
    assert path.read_bytes().endswith(b"12345")


async def test_a_disk_that_fails_is_logged_once_and_leaves_nothing_behind(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ConfigurationCache(path, endpoint=ENDPOINT)
    await cache.store(b"before")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    await cache.store(b"after")
    await cache.store(b"after")
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot write configuration cache {path}: No space left on device"
    ]
    assert await cache.load() == b"before"
    assert os.listdir(path.parent) == [path.name]
    monkeypatch.undo()
    await cache.store(b"after")
    await cache.store(b"after")
    assert caplog.messages[1:] == [f"configuration cache {path} can be written again"]


async def test_a_folder_is_no_cache(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    assert await ConfigurationCache(path, endpoint=ENDPOINT).load() is None
    assert "cannot read configuration cache" in caplog.text
