"""The file that keeps each exclusive service port's entrypoint over restarts.

Takes and gives the mapping of maesh_core/controller/ports.py. Written whole and atomically, and only when something
changed. Whatever is wrong with the file or its folder is told in the log once and never stops the controller.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from maesh_core.controller.ports import PortOwner
from maesh_core.model.keys import ObjectKey, build_port_key

FILE_LIMIT_BYTES = 32 * 2**20
"""All 65,535 ports with names of full length come to 22 MB."""

Mapped = Mapping[str, Mapping[PortOwner, int]]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]

_log = logging.getLogger(__name__)


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's JSON: by traffic type, `namespace/name:port` and its entrypoint."""

    version: Literal[1]
    ports: dict[str, dict[str, PortNumber]]


def find_default_path(environment: Mapping[str, str]) -> Path | None:
    """Name the file in the user's state folder (XDG base directories); None where there is no home."""
    state = environment.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / "maesh" / "port-mapping.json"
    home = environment.get("HOME", "")
    return Path(home) / ".local" / "state" / "maesh" / "port-mapping.json" if os.path.isabs(home) else None


def parse_mapping(content: bytes) -> dict[str, dict[PortOwner, int]]:
    """Decode the file; raises ValueError on what this controller cannot have written."""
    try:
        document = msgspec.json.decode(content, type=_Document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    mapping = {}
    for name, ports in document.ports.items():
        if len(set(ports.values())) < len(ports):
            raise ValueError(f"{name}: two service ports share an entrypoint")
        mapping[name] = {_parse_owner(key): port for key, port in ports.items()}
    return mapping


def render_mapping(mapping: Mapped) -> bytes:
    """Encode the mapping, sorted, for a person to read too."""
    ports = {
        name: {build_port_key(*owner): mapping[name][owner] for owner in sorted(mapping[name])}
        for name in sorted(mapping)
        if mapping[name]
    }
    return msgspec.json.format(msgspec.json.encode(_Document(version=1, ports=ports)), indent=2) + b"\n"


def _parse_owner(text: str) -> PortOwner:
    namespace, slash, rest = text.partition("/")
    name, colon, port = rest.rpartition(":")
    if not (namespace and slash and name and colon and port.isascii() and port.isdecimal() and len(port) <= 5):
        raise ValueError(f"{text!r} is not a service port")
    return PortOwner(ObjectKey(namespace, name), int(port))


class PortMappingFile:
    """Where the mapping is kept. `path` None: nowhere, which is told once there is something to keep."""

    __slots__ = ("_has_warned", "_is_usable", "_path", "_written")

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written: bytes | None = None
        self._is_usable = path is not None
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<PortMappingFile {self._path} usable={self._is_usable}>"

    def load(self) -> dict[str, dict[PortOwner, int]]:
        """Read the mapping; what is not one is set aside as `.bad`, and an empty one given."""
        if self._path is None:
            return {}
        try:
            content = _read_bounded(self._path)
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._is_usable = False
            self._warn(f"cannot read the port mapping {self._path}: {error.strerror}")
            return {}
        try:
            mapping = parse_mapping(content)
        except ValueError as error:
            self._set_aside(self._path, str(error))
            return {}
        self._written = content
        return mapping

    def save(self, mapping: Mapped) -> None:
        """Write the mapping if it differs from what the file holds; an empty one makes no file."""
        content = render_mapping(mapping)
        is_needless = not any(mapping.values()) and self._written is None
        if is_needless or content == self._written:
            return
        if self._path is None or not self._is_usable:
            self._warn("entrypoints are not kept over a restart: there is no file for the port mapping")
            return
        try:
            _write_atomically(self._path, content)
        except OSError as error:
            self._warn(f"entrypoints are not kept over a restart: cannot write {self._path}: {error.strerror}")
            return
        self._written = content
        self._has_warned = False

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = path.with_name(path.name + ".bad")
        _log.error("the port mapping %s is not usable and is set aside as %s: %s", path, aside.name, reason)
        try:
            os.replace(path, aside)
        except OSError as error:
            self._is_usable = False
            self._warn(f"cannot set {path} aside: {error.strerror}")

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            _log.warning("%s", text)
        self._has_warned = True


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_LIMIT_BYTES)


def _write_atomically(path: Path, content: bytes) -> None:
    """Write beside the file and rename, so that a crash leaves the old content or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
