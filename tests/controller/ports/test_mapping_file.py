import json
import logging
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.ports.mapping_file import (
    FILES_LIMIT,
    PortMappingFile,
    build_file_name,
    find_default_file,
    find_state_folder,
    parse_mapping,
    render_mapping,
)
from maesh_core.controller.ports.port_table import PortOwner
from maesh_core.model.keys import ObjectKey

OWNER = PortOwner(ObjectKey("shop", "db"), 5432)
MAPPING = {"tcp": {OWNER: 10000}}
NAMES = st.text("abc-.0", min_size=1, max_size=8)
OWNERS = st.builds(PortOwner, st.builds(ObjectKey, NAMES, NAMES), st.integers(1, 65535))


def build_ports(owners):
    return {owner: 1 + index for index, owner in enumerate(owners)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "port-mapping.json"


@given(st.dictionaries(st.sampled_from(["tcp", "udp"]), st.lists(OWNERS, min_size=1, unique=True).map(build_ports)))
def test_what_is_rendered_is_parsed_to_the_same(mapping):
    assert parse_mapping(render_mapping(mapping)) == mapping


def test_the_order_of_a_mapping_does_not_show():
    other = PortOwner(ObjectKey("a", "b"), 1)
    assert render_mapping({"tcp": {OWNER: 2, other: 1}}) == render_mapping({"tcp": {other: 1, OWNER: 2}})


def test_a_mapping_survives_a_restart(path):
    PortMappingFile(path).save(MAPPING)
    assert PortMappingFile(path).load() == MAPPING
    assert os.listdir(path.parent) == [path.name]


def test_without_a_file_there_is_no_mapping(path):
    assert PortMappingFile(path).load() == {}


def test_without_ports_no_file_is_written(path):
    file = PortMappingFile(path)
    file.load()
    file.save({})
    file.save({"tcp": {}})
    assert not path.parent.exists()


def test_the_last_port_that_goes_is_written_too(path):
    file = PortMappingFile(path)
    file.save(MAPPING)
    file.save({})
    assert PortMappingFile(path).load() == {}


def test_an_unchanged_mapping_is_not_written_again(path):
    PortMappingFile(path).save(MAPPING)
    file = PortMappingFile(path)
    file.load()
    before = path.stat()
    file.save(MAPPING)
    assert path.stat().st_ino == before.st_ino


GOOD = {"version": 1, "ports": {"tcp": {"shop/db:5432": 10000}}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        b"[" * 100_000,
        b"null",
        b'{"some": "other file"}',
        json.dumps({**GOOD, "version": 2}).encode(),
        json.dumps({**GOOD, "more": 1}).encode(),
        json.dumps({"version": 1, "ports": {"tcp": {"shop/db:5432": 70000}}}).encode(),
        json.dumps({"version": 1, "ports": {"tcp": {"shop/db:5432": "10000"}}}).encode(),
        json.dumps({"version": 1, "ports": {"tcp": {"shop/db": 10000}}}).encode(),
        json.dumps({"version": 1, "ports": {"tcp": {"db:5432": 10000}}}).encode(),
        json.dumps({"version": 1, "ports": {"tcp": {"shop/db:\u0661": 10000}}}).encode(),
        json.dumps({"version": 1, "ports": {"tcp": {"a/b:1": 10000, "a/b:2": 10000}}}).encode(),
        json.dumps(GOOD).encode()[:-5],
    ],
)
def test_a_file_that_is_no_mapping_is_reported_set_aside_and_replaced(path, content, caplog):
    path.parent.mkdir()
    path.write_bytes(content)
    file = PortMappingFile(path)
    assert file.load() == {}
    assert path.with_name("port-mapping.json.bad").read_bytes() == content
    assert "renamed to" in caplog.text
    file.save(MAPPING)
    assert PortMappingFile(path).load() == MAPPING


def test_a_crash_between_write_and_rename_leaves_the_old_mapping(path, monkeypatch):
    PortMappingFile(path).save(MAPPING)

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        PortMappingFile(path).save({"tcp": {OWNER: 10001}})
    monkeypatch.undo()
    file = PortMappingFile(path)
    assert file.load() == MAPPING
    file.save({"tcp": {OWNER: 10002}})
    assert os.listdir(path.parent) == [path.name]


def test_the_content_is_on_disk_before_it_takes_the_files_name(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    PortMappingFile(path).save(MAPPING)
    assert calls == ["fsync", "replace", "fsync"]


def test_a_folder_that_cannot_be_written_is_reported_once_and_harms_nothing(tmp_path, caplog):
    (tmp_path / "state").write_text("a file where the folder should be")
    file = PortMappingFile(tmp_path / "state" / "port-mapping.json")
    file.save(MAPPING)
    file.save({"tcp": {OWNER: 10001}})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    (tmp_path / "state").unlink()
    file.save({"tcp": {OWNER: 10001}})
    file.save({"tcp": {OWNER: 10002}})
    assert caplog.messages[1:] == [
        f"entrypoints are kept across restarts again, in {tmp_path / 'state' / 'port-mapping.json'}"
    ]


def test_a_full_disk_leaves_no_half_written_file(path, monkeypatch, caplog):
    PortMappingFile(path).save(MAPPING)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    PortMappingFile(path).save({"tcp": {OWNER: 10001}})
    assert "No space left on device" in caplog.text
    assert os.listdir(path.parent) == [path.name]
    assert PortMappingFile(path).load() == MAPPING


def test_a_file_that_cannot_be_read_is_left_alone(path, caplog):
    path.mkdir(parents=True)
    file = PortMappingFile(path)
    assert file.load() == {}
    file.save(MAPPING)
    assert path.is_dir()
    assert len(caplog.records) == 1


def test_with_no_place_for_a_file_it_is_reported_only_when_there_is_something_to_keep(caplog):
    file = PortMappingFile(None)
    assert file.load() == {}
    file.save({})
    assert not caplog.records
    file.save(MAPPING)
    assert "not kept" in caplog.text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, Path("/s/maesh")),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, Path("/h/.local/state/maesh")),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, Path("/h/.local/state/maesh")),
        ({}, None),
    ],
)
def test_the_default_is_in_the_users_state_folder(environment, expected):
    assert find_state_folder(environment) == expected


@pytest.fixture
def projects(tmp_path):
    """Make two folders of manifests that have the same name, and a link to the first."""
    for name in ("one", "two"):
        (tmp_path / name / "k8s").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "one")
    return tmp_path


def find(projects, *paths):
    return find_default_file({"XDG_STATE_HOME": str(projects / "state")}, [str(projects / path) for path in paths])


def list_files(projects):
    return sorted(path.name for path in (projects / "state" / "maesh").rglob("*.json"))


def test_each_set_of_paths_has_a_mapping_of_its_own_which_says_whose_it_is(projects):
    find(projects, "one/k8s").save(MAPPING)
    find(projects, "two/k8s").save({"tcp": {OWNER: 10007}})
    assert find(projects, "one/k8s").load() == MAPPING
    assert find(projects, "two/k8s").load() == {"tcp": {OWNER: 10007}}
    assert find(projects, "one/k8s", "two/k8s").load() == {}
    assert [name.rpartition("-")[0] for name in list_files(projects)] == ["k8s", "k8s"]
    paths = [json.loads(path.read_bytes())["paths"] for path in (projects / "state/maesh/port-mappings").iterdir()]
    assert sorted(paths) == [[str(projects / "one/k8s")], [str(projects / "two/k8s")]]


def test_the_order_and_the_spelling_of_paths_do_not_matter(projects, monkeypatch):
    find(projects, "one/k8s", "two/k8s").save(MAPPING)
    monkeypatch.chdir(projects / "one")
    for paths in (["two/k8s", "one/k8s"], ["one/../one/k8s/", "two/k8s", "one/k8s"], ["link/k8s", "two//k8s"]):
        assert find(projects, *paths).load() == MAPPING
    state = {"XDG_STATE_HOME": str(projects / "state")}
    assert find_default_file(state, ["k8s", "../two/k8s"]).load() == MAPPING


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3))
def test_a_file_s_name_is_short_and_plain_whatever_the_paths_are_called(paths):
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,40}-[0-9a-f]{16}\.json", build_file_name(paths))


def test_a_path_that_is_no_text_is_kept_too(projects):
    name = os.fsdecode(b"caf\xe9")
    find(projects, name).save(MAPPING)
    assert find(projects, name).load() == MAPPING


def test_without_manifests_there_is_one_file_and_without_a_home_none(tmp_path):
    find_default_file({"XDG_STATE_HOME": str(tmp_path)}, ()).save(MAPPING)
    assert os.listdir(tmp_path / "maesh") == ["port-mapping.json"]
    assert find_default_file({}, ["a"]).load() == {}


def test_paths_without_a_file_of_their_own_inherit_the_one_that_was_shared_and_leave_it(projects):
    shared = find(projects)
    shared.save(MAPPING)
    file = find(projects, "one/k8s")
    assert (file.load(), file.is_inherited) == (MAPPING, True)
    file.save({"tcp": {OWNER: 10001}})
    again = find(projects, "one/k8s")
    assert (again.load(), again.is_inherited) == ({"tcp": {OWNER: 10001}}, False)
    assert find(projects).load() == MAPPING


def test_a_shared_file_that_is_no_mapping_is_left_alone(projects, caplog):
    path = projects / "state/maesh/port-mapping.json"
    path.parent.mkdir(parents=True)
    path.write_text("no mapping")
    file = find(projects, "one/k8s")
    assert (file.load(), file.is_inherited) == ({}, False)
    assert path.read_text() == "no mapping"
    assert not caplog.records


def test_of_many_files_those_whose_manifests_are_gone_are_removed_first_then_the_least_used(projects):
    folder = projects / "state/maesh/port-mappings"
    for number in range(FILES_LIMIT + 3):
        manifests = projects / f"m{number:03}"
        manifests.mkdir()
        file = find(projects, manifests.name)
        file.save(MAPPING)
        (path,) = folder.glob(f"{manifests.name}-*")
        os.utime(path, (1000 + number, 1000 + number))
        if number == 50:
            manifests.rmdir()
        if number == 0:
            first = path
    assert len(os.listdir(folder)) == FILES_LIMIT
    assert not list(folder.glob("m050-*"))
    assert not first.exists()
    assert not list(folder.glob("m001-*"))
    find(projects, "m002").load()  # in use from now on
    find(projects, "one/k8s").save(MAPPING)
    assert list(folder.glob("m002-*"))
    assert not list(folder.glob("m003-*"))
