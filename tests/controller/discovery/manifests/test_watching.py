import asyncio
import time

import pytest

from maesh_core.controller.discovery.manifests.files import build_root
from maesh_core.controller.discovery.manifests.watching import FolderWatch


@pytest.fixture
async def watch(tmp_path):
    made = FolderWatch([build_root(str(tmp_path), is_recursive=False)])
    await made.renew()
    yield made
    await made.close()


async def wait_for(watch, path):
    """Wait until a path is hinted; give all hints up to then."""
    hints = {}
    async with asyncio.timeout(60):
        while str(path) not in hints:
            hints.update(await watch.wait(time.monotonic() + 10))
    return hints


async def test_a_rename_into_place_is_distinguished_from_writing(watch, tmp_path):
    (tmp_path / "a.yaml").write_text("1")
    await wait_for(watch, tmp_path / "a.yaml")
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").rename(tmp_path / "a.yaml")
    assert (await wait_for(watch, tmp_path / "a.yaml"))[str(tmp_path / "a.yaml")] is True
    (tmp_path / "a.yaml").write_text("3")
    assert (await wait_for(watch, tmp_path / "a.yaml"))[str(tmp_path / "a.yaml")] is False


async def test_a_removal_is_no_rename_into_place(watch, tmp_path):
    (tmp_path / "a.yaml").write_text("1")
    await wait_for(watch, tmp_path / "a.yaml")
    (tmp_path / "a.yaml").unlink()
    assert (await wait_for(watch, tmp_path / "a.yaml"))[str(tmp_path / "a.yaml")] is False


async def test_waiting_ends_at_its_time_without_changes(watch):
    async with asyncio.timeout(60):
        assert await watch.wait(time.monotonic()) == {}


async def test_renewing_leaves_a_good_watch_alone(watch):
    tasks = list(watch._tasks)
    await watch.renew()
    assert watch._tasks == tasks


async def test_the_loss_of_a_watched_folder_is_noticed_and_mended(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    watch = FolderWatch([build_root(str(folder), is_recursive=False)])
    await watch.renew()
    try:
        folder.rmdir()
        await wait_for(watch, folder)
        assert watch.is_stale
        folder.mkdir()
        await watch.renew()
        (folder / "a.yaml").write_text("1")
        await wait_for(watch, folder / "a.yaml")
        assert not watch.is_stale
    finally:
        await watch.close()


async def test_a_named_file_is_watched_through_its_folder_alone(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("1")
    watch = FolderWatch([build_root(str(tmp_path / "a.yaml"), is_recursive=True)])
    await watch.renew()
    try:
        (tmp_path / "sub" / "b.yaml").write_text("1")
        (tmp_path / "a.yaml").write_text("2")
        assert str(tmp_path / "sub" / "b.yaml") not in await wait_for(watch, tmp_path / "a.yaml")
    finally:
        await watch.close()


async def test_a_watch_that_fails_is_logged_once_and_once_more_when_it_works(tmp_path, monkeypatch, caplog):
    def refuse(*_, **__):
        raise OSError("no more watches")

    watch = FolderWatch([build_root(str(tmp_path), is_recursive=False)])
    with monkeypatch.context() as patch:
        patch.setattr("maesh_core.controller.discovery.manifests.watching.awatch", refuse)
        await watch.renew()
        await watch.renew()
    assert caplog.messages == [f"watching {tmp_path} failed, so changes are seen late: no more watches"]
    await watch.renew()
    await watch.renew()
    await watch.renew()
    await watch.close()
    assert caplog.messages[1:] == [f"watching {tmp_path} works again"]
