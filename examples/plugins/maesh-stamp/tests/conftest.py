"""Makes the plugin importable from its folder, so that its tests run without installing it."""

import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def importable_from_its_folder(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "maesh_stamp"]:
        del sys.modules[name]
