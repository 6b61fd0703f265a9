import asyncio
import os
import shutil

import pytest

from maesh_core.controller.discovery.manifests.source import ManifestSource
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import StartupError
from maesh_core.model.events import Deleted, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service


def has(*names, namespace="apps"):
    return lambda snapshot: [key.name for key in snapshot.keys(Service)] == sorted(names)


def has_port(name, number):
    def check(snapshot):
        service = snapshot.get(Service, ObjectKey("apps", name))
        return service is not None and service.spec.ports[0].port == number

    return check


def deleted(events):
    return [event.key.name for event in events if isinstance(event, Deleted)]


def replace(path, text):
    """Write beside, then rename into place."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    os.replace(beside, path)


async def test_a_path_that_does_not_exist_stops_the_start(tmp_path):
    with pytest.raises(StartupError, match=r"missing\.yaml: no such file or folder"):
        ManifestSource([str(tmp_path), str(tmp_path / "missing.yaml")]).check_paths()


async def test_the_first_batch_lists_every_kind_even_of_an_empty_folder(tmp_path, follow):
    async with follow(tmp_path) as follower:
        assert follower.batch[:-1] == [Replaced(kind.type, []) for kind in CORE_KINDS]
        assert follower.batch[-1].is_notice
        assert follower.snapshot.problems == {}


async def test_files_and_folders_are_read_together(tmp_path, follow, service):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.yaml").write_text(service("a"))
    (tmp_path / "b.txt").write_text(service("b"))
    async with follow(tmp_path / "m", tmp_path / "b.txt") as follower:
        assert has("a", "b")(follower.snapshot)


async def test_a_broken_document_is_reported_and_the_rest_is_loaded(tmp_path, follow, service):
    path = tmp_path / "a.yaml"
    path.write_text(f"{service('a')}---\nkind: [\n---\n{service('b')}")
    async with follow(tmp_path) as follower:
        assert has("a", "b")(follower.snapshot)
        (origin,) = follower.snapshot.problems
        assert origin.startswith(f"{path} document 2 line ")


async def test_a_change_is_followed_whether_written_or_renamed_into_place(tmp_path, follow, service):
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    async with follow(tmp_path) as follower:
        path.write_text(service("a", 81))
        assert not deleted(await follower.until(has_port("a", 81)))
        replace(path, service("a", 82))
        assert not deleted(await follower.until(has_port("a", 82)))


async def test_files_that_come_and_go_are_followed(tmp_path, follow, service):
    async with follow(tmp_path) as follower:
        (tmp_path / "a.yaml").write_text(service("a"))
        await follower.until(has("a"))
        (tmp_path / "b.json").write_text('{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}}')
        await follower.until(has("a", "b"))
        (tmp_path / "a.yaml").unlink()
        await follower.until(has("b"))


async def test_an_editor_that_moves_the_old_file_away_deletes_nothing(tmp_path, follow, service):
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    async with follow(tmp_path) as follower:
        path.rename(tmp_path / "a.yaml~")
        path.write_text(service("a", 81))
        (tmp_path / "a.yaml~").unlink()
        assert not deleted(await follower.until(has_port("a", 81)))


async def test_half_of_a_file_is_never_applied(tmp_path, follow, service):
    path = tmp_path / "a.yaml"
    path.write_text(f"{service('a')}---\n{service('b')}")
    async with follow(tmp_path, settle_s=0.5) as follower:
        with path.open("w") as file:
            for line in f"{service('a', 81)}---\n{service('b', 81)}".splitlines(keepends=True):
                file.write(line)
                file.flush()
                await asyncio.sleep(0)
        events = await follower.until(has_port("b", 81))
        assert not deleted(events)
        assert has_port("a", 81)(follower.snapshot)
        assert not [event for event in events if isinstance(event, Problem)]


async def test_a_file_that_turns_bad_keeps_its_last_good_content(tmp_path, follow, service):
    path = tmp_path / "a.yaml"
    path.write_text(f"{service('a')}---\n{service('b')}")
    async with follow(tmp_path) as follower:
        path.write_text(f"{service('a', 81)}---\nkind: [")
        assert not deleted(await follower.until(lambda snapshot: snapshot.problems))
        assert has_port("a", 80)(follower.snapshot)
        assert has("a", "b")(follower.snapshot)
        path.write_text(service("a", 81))
        await follower.until(has("a"))
        assert has_port("a", 81)(follower.snapshot)
        assert follower.snapshot.problems == {}


async def test_a_duplicate_object_names_both_paths_and_the_second_takes_over(tmp_path, follow, service):
    (tmp_path / "a.yaml").write_text(service("x", 81))
    (tmp_path / "b.yaml").write_text(service("x", 82))
    async with follow(tmp_path) as follower:
        assert has_port("x", 81)(follower.snapshot)
        (text,) = follower.snapshot.problems.values()
        assert str(tmp_path / "a.yaml") in text
        assert str(tmp_path / "b.yaml") in text
        (tmp_path / "a.yaml").unlink()
        assert not deleted(await follower.until(has_port("x", 82)))
        assert follower.snapshot.problems == {}


async def test_sub_folders_are_followed_only_when_asked(tmp_path, follow, service):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text(service("a"))
    async with follow(tmp_path) as follower:
        assert has()(follower.snapshot)
    async with follow(tmp_path, is_recursive=True) as follower:
        assert has("a")(follower.snapshot)
        (tmp_path / "sub" / "deep").mkdir()
        (tmp_path / "sub" / "deep" / "b.yaml").write_text(service("b"))
        await follower.until(has("a", "b"))
        shutil.rmtree(tmp_path / "sub")
        await follower.until(has())


async def test_a_config_maps_link_swap_is_followed_as_one(tmp_path, follow, service):
    folder = tmp_path / "m"
    for version, port in (("..1", 81), ("..2", 82)):
        (folder / version).mkdir(parents=True)
        for name in "ab":
            (folder / version / f"{name}.yaml").write_text(service(name, port))
    (folder / "..data").symlink_to("..1")
    for name in "ab":
        (folder / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    async with follow(folder) as follower:
        assert has("a", "b")(follower.snapshot)
        (folder / "..data_tmp").symlink_to("..2")
        os.replace(folder / "..data_tmp", folder / "..data")
        shutil.rmtree(folder / "..1")
        events = await follower.until(has_port("a", 82))
        assert not deleted(events)
        assert has_port("b", 82)(follower.snapshot)
        assert follower.snapshot.problems == {}


async def test_odd_things_in_a_folder_are_problems_and_the_rest_is_loaded(tmp_path, follow, service):
    (tmp_path / "a.yaml").write_text(service("a"))
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "dangling.yaml").symlink_to("nothing")
    (tmp_path / "device.json").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    async with follow(tmp_path) as follower:
        assert has("a")(follower.snapshot)
        assert follower.snapshot.problems == {
            str(tmp_path / "fifo.yaml"): "is not a regular file",
            str(tmp_path / "dangling.yaml"): "is a broken link",
            str(tmp_path / "device.json"): "is not a regular file",
        }
        (tmp_path / "fifo.yaml").unlink()
        await follower.until(lambda snapshot: len(snapshot.problems) == 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_an_unreadable_file_is_a_problem_until_it_is_readable(tmp_path, follow, service):
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    path.chmod(0)
    async with follow(tmp_path) as follower:
        assert follower.snapshot.problems == {str(path): "cannot be read: Permission denied"}
        path.chmod(0o600)
        await follower.until(has("a"))
        assert follower.snapshot.problems == {}


async def test_a_folder_that_is_removed_and_made_again_is_followed_again(tmp_path, follow, service, monkeypatch):
    monkeypatch.setattr("maesh_core.controller.discovery.manifests.source.SWEEP_S", 0.1)
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a.yaml").write_text(service("a"))
    async with follow(folder) as follower:
        shutil.rmtree(folder)
        await follower.until(has())
        assert str(folder) in follower.snapshot.problems
        folder.mkdir()
        (folder / "b.yaml").write_text(service("b"))
        await follower.until(has("b"))
        (folder / "b.yaml").write_text(service("b", 81))
        await follower.until(has_port("b", 81))
        assert follower.snapshot.problems == {}


async def test_a_file_behind_a_link_is_followed(tmp_path, follow, service, monkeypatch):
    monkeypatch.setattr("maesh_core.controller.discovery.manifests.source.SWEEP_S", 0.1)
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "a.yaml"
    target.write_text(service("a"))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.yaml").symlink_to(target)
    async with follow(tmp_path / "m") as follower:
        target.write_text(service("a", 81))
        await follower.until(has_port("a", 81))


async def test_a_folder_named_through_a_link_is_followed(tmp_path, follow, service):
    (tmp_path / "real").mkdir()
    (tmp_path / "m").symlink_to("real")
    async with follow(tmp_path / "m") as follower:
        (tmp_path / "real" / "a.yaml").write_text(service("a"))
        await follower.until(has("a"))


async def test_a_folder_named_relative_to_the_working_folder_is_followed(tmp_path, follow, service, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with follow(".") as follower:
        (tmp_path / "a.yaml").write_text("kind: [")
        await follower.until(lambda snapshot: snapshot.problems)
        (origin,) = follower.snapshot.problems
        assert origin.startswith("./a.yaml document 1 line ")


async def test_a_named_file_is_followed_through_renaming(tmp_path, follow, service):
    path = tmp_path / "a.conf"
    path.write_text(service("a"))
    async with follow(path) as follower:
        replace(path, service("a", 81))
        await follower.until(has_port("a", 81))
        replace(path, service("a", 82))
        await follower.until(has_port("a", 82))


async def test_without_a_watch_changes_are_still_found(tmp_path, follow, service, monkeypatch, caplog):
    async def refuse(*_paths, **_options):
        raise OSError("no space left on device: file watch limit")
        yield  # an asynchronous generator, as the real one is

    monkeypatch.setattr("maesh_core.controller.discovery.manifests.watching.awatch", refuse)
    monkeypatch.setattr("maesh_core.controller.discovery.manifests.source.SWEEP_S", 0.05)
    async with follow(tmp_path) as follower:
        (tmp_path / "a.yaml").write_text(service("a"))
        await follower.until(has("a"))
    assert caplog.text.count("file watch limit") == 1


async def test_closing_leaves_no_task_behind(tmp_path):
    before = asyncio.all_tasks()
    batches = ManifestSource([str(tmp_path)]).watch_events(CORE_KINDS)
    async with asyncio.timeout(60):
        await anext(batches)
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await batches.aclose()
    assert asyncio.all_tasks() == before


async def test_the_source_can_be_started_again(tmp_path, service):
    (tmp_path / "a.yaml").write_text(service("a"))
    source = ManifestSource([str(tmp_path)], settle_s=0.01)
    firsts = []
    for _ in range(2):
        batches = source.watch_events(CORE_KINDS)
        async with asyncio.timeout(60):
            firsts.append(await anext(batches))
            await batches.aclose()
    assert firsts[0] == firsts[1]
