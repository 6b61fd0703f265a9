import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller import port_mapping
from maesh_core.controller.port_mapping import PortMappingFile, find_default_path, parse_mapping, render_mapping
from maesh_core.controller.ports import PortOwner
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
def test_a_file_that_is_no_mapping_is_told_set_aside_and_replaced(path, content, caplog):
    path.parent.mkdir()
    path.write_bytes(content)
    file = PortMappingFile(path)
    assert file.load() == {}
    assert path.with_name("port-mapping.json.bad").read_bytes() == content
    assert "set aside" in caplog.text
    file.save(MAPPING)
    assert PortMappingFile(path).load() == MAPPING


def test_a_crash_between_write_and_rename_leaves_the_old_mapping(path, monkeypatch):
    PortMappingFile(path).save(MAPPING)

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(port_mapping.os, "replace", crash)
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
    monkeypatch.setattr(port_mapping.os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(port_mapping.os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    PortMappingFile(path).save(MAPPING)
    assert calls == ["fsync", "replace", "fsync"]


def test_a_folder_that_cannot_be_written_is_told_once_and_harms_nothing(tmp_path, caplog):
    (tmp_path / "state").write_text("a file where the folder should be")
    file = PortMappingFile(tmp_path / "state" / "port-mapping.json")
    file.save(MAPPING)
    file.save({"tcp": {OWNER: 10001}})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_full_disk_leaves_no_half_written_file(path, monkeypatch, caplog):
    PortMappingFile(path).save(MAPPING)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(port_mapping.os, "fsync", fail)
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


def test_with_no_place_for_a_file_it_is_told_only_when_there_is_something_to_keep(caplog):
    file = PortMappingFile(None)
    assert file.load() == {}
    file.save({})
    assert not caplog.records
    file.save(MAPPING)
    assert "not kept" in caplog.text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, Path("/s/maesh/port-mapping.json")),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, Path("/h/.local/state/maesh/port-mapping.json")),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, Path("/h/.local/state/maesh/port-mapping.json")),
        ({}, None),
    ],
)
def test_the_default_is_in_the_users_state_folder(environment, expected):
    assert find_default_path(environment) == expected
