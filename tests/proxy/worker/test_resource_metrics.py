"""The memory and descriptors of a worker."""

import os

from maesh_core.proxy.worker.resource_metrics import PAGE_BYTES, collect_worker_metrics


def read(*arguments):
    return {family.name: dict(family.samples) for family in collect_worker_metrics(*arguments)}


def test_memory_is_resident_pages_and_descriptors_are_counted(tmp_path):
    (tmp_path / "statm").write_text("100 7 3 1 0 5 0\n")
    (tmp_path / "fd").mkdir()
    for number in range(4):
        (tmp_path / "fd" / str(number)).touch()
    assert read(2, tmp_path) == {
        "maesh_worker_memory_bytes": {("2",): 7 * PAGE_BYTES},
        "maesh_worker_open_descriptors": {("2",): 4},
    }


def test_without_proc_there_are_no_metrics(tmp_path):
    assert read(0, tmp_path) == {}
    (tmp_path / "statm").write_text("nonsense\n")
    assert read(0, tmp_path) == {}


def test_this_process_has_memory_and_one_more_descriptor_after_opening_one():
    before = read(0)
    descriptor = os.dup(2)
    after = read(0)
    os.close(descriptor)
    assert before["maesh_worker_memory_bytes"][("0",)] > 1_000_000
    assert after["maesh_worker_open_descriptors"][("0",)] == before["maesh_worker_open_descriptors"][("0",)] + 1
