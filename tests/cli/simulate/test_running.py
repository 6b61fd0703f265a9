"""Files are found in folders, and those with the same manifests and plugins share one state."""

import asyncio

import pytest

from maesh_core.cli.simulate import running
from maesh_core.controller.mesh_states.reading import build_manifest_state
from maesh_core.errors import MaeshError
from maesh_core.settings.states import SimulateSettings

TEXT = "manifests: deploy\nrequests: [{client: a/b, service: c.d, expect: absent}]"


def run(*paths):
    return asyncio.run(running.run_scenarios(SimulateSettings(), [str(path) for path in paths]))


def test_a_folder_has_its_files_in_order_and_they_share_a_state(tmp_path, monkeypatch):
    (tmp_path / "deploy").mkdir()
    for name in ("b.yaml", "a.yml", "c.txt"):
        (tmp_path / name).write_text(TEXT)
    built = []
    build = build_manifest_state

    def count(settings, plugins, label):
        built.append(label)
        return build(settings, plugins, label)

    monkeypatch.setattr(running, "build_manifest_state", count)
    results = run(tmp_path)
    assert [each.path.rpartition("/")[2] for each in results] == ["a.yml", "b.yaml"]
    assert not any(each.failed for each in results)
    assert len(built) == 1


def test_files_that_are_not_there_or_not_text_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff")
    for name, text in (("empty", "no file in it ends in"), ("missing.yaml", "missing.yaml"), ("binary.yaml", "UTF-8")):
        with pytest.raises(MaeshError, match=text):
            run(tmp_path / name)
