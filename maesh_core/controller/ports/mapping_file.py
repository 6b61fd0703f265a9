"""The file that stores the entrypoint of each exclusive service port across restarts.

Reads and writes the mapping of assignment.py. The file is written atomically as a whole, and only if something changed.
A problem with the file or its folder is logged once and never stops the controller.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from maesh_core.controller.ports.port_table import PortOwner
from maesh_core.model.keys import ObjectKey, build_port_key

FILE_LIMIT_BYTES = 32 * 2**20
"""All 65,535 ports with names of full length have 22 MB."""

SHARED_NAME = "port-mapping.json"
FOLDER_NAME = "port-mappings"
"""The folder that has a file for each set of paths."""
FILES_LIMIT = 100
"""Limit of files in that folder; a mesh whose file was removed assigns its ports as on its first run."""

_UNREADABLE = re.compile(r"[^A-Za-z0-9._-]+")

Mapped = Mapping[str, Mapping[PortOwner, int]]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]

_log = logging.getLogger(__name__)


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The file's JSON: entrypoints by traffic type and `namespace/name:port`. `paths` are those of the manifests."""

    version: Literal[1]
    paths: tuple[str, ...] = ()
    ports: dict[str, dict[str, PortNumber]]


def find_state_folder(environment: Mapping[str, str]) -> Path | None:
    """Find Maesh's folder for the user's state (XDG base directories); None if there is no home."""
    state = environment.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / "maesh"
    home = environment.get("HOME", "")
    return Path(home) / ".local" / "state" / "maesh" if os.path.isabs(home) else None


def find_default_file(environment: Mapping[str, str], paths: Sequence[str]) -> "PortMappingFile":
    """Find the file for the mapping of manifests: one for this set of paths, in any order and spelling.

    Meshes of different folders therefore never move each other's entrypoints. Without paths there is one file, which
    earlier versions used for everything; a set of paths without a file of its own continues with its ports in that one.
    """
    folder = find_state_folder(environment)
    if folder is None:
        return PortMappingFile(None)
    shared = folder / SHARED_NAME
    if not paths:
        return PortMappingFile(shared)
    resolved = tuple(sorted({os.path.realpath(path) for path in paths}))
    return PortMappingFile(folder / FOLDER_NAME / build_file_name(resolved), paths=resolved, shared=shared)


def build_file_name(paths: Sequence[str]) -> str:
    """Name the file of a set of resolved, sorted paths: the first one's last part, for readers, and a hash of all."""
    digest = hashlib.sha256(b"\0".join(map(os.fsencode, paths))).hexdigest()[:16]
    readable = _UNREADABLE.sub("-", os.path.basename(paths[0])).strip("-.")[:40]
    return f"{readable or 'manifests'}-{digest}.json"


def parse_mapping(content: bytes) -> dict[str, dict[PortOwner, int]]:
    """Decode the file; raises ValueError for a file that this controller cannot have written."""
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


def render_mapping(mapping: Mapped, paths: Sequence[str] = ()) -> bytes:
    """Encode the mapping, sorted and readable; `paths` are those of the manifests."""
    ports = {
        name: {build_port_key(*owner): mapping[name][owner] for owner in sorted(mapping[name])}
        for name in sorted(mapping)
        if mapping[name]
    }
    shown = tuple(os.fsencode(path).decode(errors="replace") for path in paths)
    return msgspec.json.format(msgspec.json.encode(_Document(version=1, paths=shown, ports=ports)), indent=2) + b"\n"


def _parse_owner(text: str) -> PortOwner:
    namespace, slash, rest = text.partition("/")
    name, colon, port = rest.rpartition(":")
    if not (namespace and slash and name and colon and port.isascii() and port.isdecimal() and len(port) <= 5):
        raise ValueError(f"{text!r} is not a service port")
    return PortOwner(ObjectKey(namespace, name), int(port))


class PortMappingFile:
    """The storage of the mapping. With `path` None it is not stored, and the first entry logs that.

    The file of the manifests at `paths` is one of many in its folder; unused ones are removed. If it does not exist,
    `shared` is read instead: then `is_inherited` is true, and the mapping may contain services of other manifests.
    """

    __slots__ = ("_has_warned", "_is_usable", "_path", "_paths", "_shared", "_written", "is_inherited")

    def __init__(self, path: Path | None, *, paths: Sequence[str] = (), shared: Path | None = None) -> None:
        self._path = path
        self._paths = tuple(paths)
        self._shared = shared
        self.is_inherited = False
        self._written: bytes | None = None
        self._is_usable = path is not None
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<PortMappingFile {self._path} usable={self._is_usable}>"

    def load(self) -> dict[str, dict[PortOwner, int]]:
        """Read the mapping; an invalid file is renamed to `.bad`, and an empty mapping is returned."""
        if self._path is None:
            return {}
        try:
            content = _read_bounded(self._path)
        except FileNotFoundError:
            return self._inherit()
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
        if self._paths:
            with suppress(OSError):
                os.utime(self._path)  # marks it as used
        return mapping

    def _inherit(self) -> dict[str, dict[PortOwner, int]]:
        """Read the shared file, which is never changed."""
        if self._shared is None:
            return {}
        try:
            mapping = parse_mapping(_read_bounded(self._shared))
        except (OSError, ValueError):
            return {}
        self.is_inherited = True
        return mapping

    def save(self, mapping: Mapped) -> None:
        """Write the mapping if it differs from the file; an empty mapping creates no file."""
        content = render_mapping(mapping, self._paths)
        is_needless = not any(mapping.values()) and self._written is None
        if is_needless or content == self._written:
            return
        if self._path is None or not self._is_usable:
            self._warn("entrypoints are not kept across restarts: there is no file for the port mapping")
            return
        try:
            _write_atomically(self._path, content)
            if self._written is None and self._paths:
                remove_unused(self._path.parent, kept=self._path)
        except OSError as error:
            self._warn(f"entrypoints are not kept across restarts: cannot write {self._path}: {error.strerror}")
            return
        if self._has_warned:
            _log.warning("entrypoints are kept across restarts again, in %s", self._path)
        self._written = content
        self._has_warned = False

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = path.with_name(path.name + ".bad")
        _log.error("the port mapping %s is invalid and was renamed to %s: %s", path, aside.name, reason)
        try:
            os.replace(path, aside)
        except OSError as error:
            self._is_usable = False
            self._warn(f"cannot rename {path}: {error.strerror}")

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            _log.warning("%s", text)
        self._has_warned = True


def remove_unused(folder: Path, *, kept: Path, limit: int = FILES_LIMIT) -> None:
    """Remove files above the limit: first those whose manifests are gone, then the least recently used.

    Raises OSError for a folder that cannot be read; a file that cannot be removed is kept.
    """
    found = [path for path in folder.iterdir() if path != kept and path.is_file()]
    if len(found) < limit:
        return
    for _, path in sorted((_rate_use(path), path) for path in found)[: len(found) + 1 - limit]:
        with suppress(OSError):
            path.unlink()


def _rate_use(path: Path) -> tuple[bool, float]:
    """Rate a file; lower values are removed first: whether all its manifests exist, and when it was last used."""
    try:
        document = msgspec.json.decode(_read_bounded(path), type=_Document)
        return bool(document.paths) and all(map(os.path.exists, document.paths)), path.stat().st_mtime
    except (OSError, msgspec.DecodeError, RecursionError):
        return False, 0.0


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_LIMIT_BYTES)


def _write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it, so that a crash leaves the old content or the new one."""
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
