"""Files in a folder: read, and changed together or not at all."""

import threading

import msgspec
import pytest
from maesh_mtls.controller.authority.folder_store import PENDING, ROTATION, FolderStore
from maesh_mtls.controller.authority.stores import StoreConflictError, Stored, StoreError

FILES = {"tls.crt": b"certificate", "tls.key": b"key"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ca"


@pytest.fixture
def store(folder):
    return FolderStore(folder)


def test_a_folder_that_does_not_exist_is_empty_and_is_made_by_the_first_write(store, folder):
    assert store.load_now() == Stored()
    version = store.write_now(FILES, "", version="")
    assert store.load_now() == Stored(files=FILES, version=version)
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"tls.crt": 0o644, "tls.key": 0o600}


async def test_only_the_named_files_change(store, folder):
    version = await store.write({**FILES, "ca.crt": b"root"}, '{"phase":1}', version="")
    (folder / "notes.txt").write_text("of the administrator")
    version = await store.write({"ca.crt": None, "signer.key": b"former"}, "", version=version)
    stored = await store.load()
    assert dict(stored.files) == {**FILES, "signer.key": b"former"}
    assert (stored.rotation, stored.version) == ("", version)
    assert (folder / "signer.key").stat().st_mode & 0o777 == 0o600
    assert (folder / "notes.txt").exists()
    assert not (folder / ROTATION).exists()


def test_a_change_that_is_based_on_another_version_is_refused(store, folder):
    version = store.write_now(FILES, "", version="")
    (folder / "tls.crt").write_bytes(b"changed by hand")
    for based_on in (version, ""):
        with pytest.raises(StoreConflictError):
            store.write_now({"ca.crt": b"root"}, "", version=based_on)
    assert not (folder / "ca.crt").exists()


def test_of_controllers_that_start_together_one_makes_the_files(folder):
    made = []

    def make(number):
        try:
            FolderStore(folder).write_now({"tls.crt": b"%d" % number, "tls.key": b"%d" % number}, "", version="")
        except StoreConflictError:
            return
        made.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert dict(FolderStore(folder).load_now().files) == {"tls.crt": b"%d" % made[0], "tls.key": b"%d" % made[0]}


def test_a_change_that_was_interrupted_is_finished_by_the_next_reader(store, folder):
    store.write_now(FILES, "", version="")
    change = {"files": {"tls.crt": b"new", "tls.key": b"new key", "ca.crt": None, ROTATION: b"{}"}}
    (folder / PENDING).write_bytes(msgspec.json.encode(change))
    (folder / "tls.crt").write_bytes(b"new")
    stored = store.load_now()
    assert dict(stored.files) == {"tls.crt": b"new", "tls.key": b"new key"}
    assert stored.rotation == "{}"
    assert not (folder / PENDING).exists()


def test_a_damaged_change_is_an_error(store, folder):
    store.write_now(FILES, "", version="")
    (folder / PENDING).write_bytes(b"{")
    with pytest.raises(StoreError, match="damaged"):
        store.load_now()


@pytest.mark.parametrize("name", ["tls.key", "signer.key"])
def test_a_key_that_others_can_read_is_refused(store, folder, name):
    store.write_now({**FILES, name: b"key"}, "", version="")
    (folder / name).chmod(0o640)
    with pytest.raises(StoreError, match="other users can read"):
        store.load_now()


def test_a_file_that_is_not_of_the_authority_is_refused(store, folder):
    with pytest.raises(StoreError, match="no file of the authority"):
        store.write_now({"../escape": b""}, "", version="")
    assert not folder.exists()


async def test_a_watch_yields_the_content_and_its_changes(folder):
    changes = [
        lambda: None,
        lambda: FolderStore(folder).write_now(FILES, "", version=""),
        lambda: (folder / "tls.key").chmod(0o640),
        lambda: (folder / "tls.key").chmod(0o600),
        lambda: (folder / "ca.crt").write_bytes(b"root"),
    ]

    async def pause(_):
        changes.pop(0)()

    seen: list[list[str]] = []
    problems: list[str | None] = []
    async for stored in FolderStore(folder, report=problems.append, pause=pause).watch():
        seen.append(sorted(stored.files))
        if len(seen) == 3:
            break
    assert seen == [[], ["tls.crt", "tls.key"], ["ca.crt", "tls.crt", "tls.key"]]
    assert problems == [f"other users can read {folder / 'tls.key'} (mode 0640); chmod 600 it", None]
