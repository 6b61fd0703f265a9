"""Reads the two states of `maesh diff` from what the user names.

Takes two texts; returns MeshStates. Files of a git revision are written to a folder that exists only meanwhile. Raises
MaeshError.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from maesh_core.cli.diff.revisions import write_revision
from maesh_core.controller.mesh_states.reading import build_manifest_state, read_cluster
from maesh_core.controller.mesh_states.state import MeshState
from maesh_core.errors import SettingsError
from maesh_core.plugin_system.loading import LoadedPlugins, load_plugins
from maesh_core.settings import ControllerSettings
from maesh_core.settings.states import DiffSettings, build_controller_settings

CLUSTER = "cluster"
_GIT = "git:"


class NamedState(NamedTuple):
    """A state as the user names it: `revision` is empty for plain paths, `path` for a cluster."""

    text: str
    revision: str = ""
    path: str = ""


def parse_states(old: str, new: str) -> tuple[NamedState, NamedState]:
    """Parse the two texts. Raises SettingsError."""
    found = _parse(old), _parse(new)
    if all(each.text == CLUSTER for each in found):
        raise SettingsError("OLD and NEW are both cluster: nothing to compare")
    paths = [each.path for each in found if each.path]
    default = paths[0] if paths else "."
    first, second = (each._replace(path=default) if each.revision and not each.path else each for each in found)
    return first, second


def _parse(text: str) -> NamedState:
    if text == CLUSTER:
        return NamedState(text)
    if not text.startswith(_GIT):
        if not text:
            raise SettingsError("OLD and NEW must each name a path, git:REVISION or cluster")
        return NamedState(text, path=text)
    revision, _, path = text.removeprefix(_GIT).partition(":")
    if not revision:
        raise SettingsError(f"{text}: the revision is missing; write git:REVISION or git:REVISION:PATH")
    return NamedState(text, revision, path)


async def read_states(settings: DiffSettings, old: str, new: str, stack: ExitStack) -> tuple[MeshState, MeshState]:
    """Read both states. Raises MaeshError."""
    names = parse_states(old, new)
    paths = [_find_path(each, stack, is_recursive=settings.recursive) for each in names]
    if all(paths):
        before, after = [
            await build_manifest_state(
                _build_settings(settings, path), _load(settings), name.text, folder=path if name.revision else ""
            )
            for name, path in zip(names, paths, strict=True)
        ]
        return before, after
    objects = await read_cluster(_build_settings(settings, ""), _load(settings))
    before, after = [
        await objects.build_applied([path], is_recursive=settings.recursive, label=f"cluster with {name.text}")
        if path
        else objects.build_state(name.text)
        for name, path in zip(names, paths, strict=True)
    ]
    return before, after


def _find_path(name: NamedState, stack: ExitStack, *, is_recursive: bool) -> str:
    """Find the path of the files of a state; empty for a cluster."""
    if not name.revision:
        return name.path
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="maesh-diff-")))
    return str(write_revision(name.revision, name.path, folder, is_recursive=is_recursive))


def _load(settings: DiffSettings) -> LoadedPlugins:
    return load_plugins("controller", settings.plugins, settings.plugin_settings, origins=settings.origins)


def _build_settings(settings: DiffSettings, path: str) -> ControllerSettings:
    controller = build_controller_settings(settings, (path,) if path else (), settings.plugins)
    return replace(controller, kubeconfig=settings.kubeconfig, master_url=settings.master_url)
