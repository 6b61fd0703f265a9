"""Access to the files of the given paths: their names, signatures and contents.

Takes paths; returns file names, signatures and bytes, or raises ManifestError. Never blocks on a FIFO or device, never
reads without a limit, follows links to files but not to folders. Must not parse the contents.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from maesh_core.errors import ManifestError
from maesh_core.process.printable import escape_unprintable

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Larger files are refused: 5,000 services with 10 servers each in one JSON file are 22 MB."""

MAX_FOLDER_DEPTH = 32
"""Depth to which `-R` reads folders."""

FOLDERS_SEARCHED = 1000
"""Limit of folders that are searched for manifests that `-R` would find."""

SUFFIXES = (".json", ".yaml", ".yml")
"""Suffixes of the files that are read in a folder, as in `kubectl`."""


class Signature(NamedTuple):
    """The state of a file: if two signatures are equal, nothing was written in between."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    def is_same_file(self, other: "Signature") -> bool:
        """Whether both have the same inode; otherwise the file was replaced."""
        return (self.device, self.inode) == (other.device, other.inode)


class Root(NamedTuple):
    """A given path: `path` is absolute, `given` is the user's spelling."""

    path: str
    given: str
    is_folder: bool
    is_recursive: bool

    def holds(self, path: str) -> bool:
        """Whether a file with this path should be read, if it exists."""
        if not self.is_folder:
            return path == self.path
        folder, name = os.path.split(path)
        if not is_manifest_name(name):
            return False
        return folder == self.path or (self.is_recursive and self.holds_folder(folder))

    def holds_folder(self, folder: str) -> bool:
        """Whether a folder is this root, or is read with it."""
        if folder == self.path:
            return True
        prefix = self.path.rstrip("/") + "/"
        if not (self.is_folder and self.is_recursive and folder.startswith(prefix)):
            return False
        return not any(part.startswith(".") for part in folder[len(prefix) :].split("/"))

    def show(self, path: str) -> str:
        """Show a path below this root in the user's spelling, on one line and in UTF-8."""
        below = path.removeprefix(self.path).lstrip("/")
        shown = os.fsencode(os.path.join(self.given, below) if below else self.given).decode(
            "utf-8", "backslashreplace"
        )
        return escape_unprintable(shown)


class Roots:
    """All roots; finds the root of a path efficiently, even with many named files."""

    __slots__ = ("_files", "folders")

    def __init__(self, roots: Iterable[Root]) -> None:
        self._files: dict[str, Root] = {}
        self.folders: list[Root] = []
        for root in roots:
            if root.is_folder:
                self.folders.append(root)
            else:
                self._files[root.path] = root

    def __iter__(self) -> Iterator[Root]:
        return iter((*self.folders, *self._files.values()))

    def find(self, path: str) -> Root | None:
        """Find the root of a file; a named file takes precedence over a folder."""
        return self._files.get(path) or next((root for root in self.folders if root.holds(path)), None)

    def is_named_file(self, path: str) -> bool:
        """Whether this file itself was named."""
        return path in self._files

    def holds_folder(self, folder: str) -> bool:
        """Whether a folder is one that is read."""
        return any(root.holds_folder(folder) for root in self.folders)


def is_manifest_name(name: str) -> bool:
    """Whether a file name in a folder is read; names with a leading dot belong to editors, kubelet and git."""
    return name.endswith(SUFFIXES) and not name.startswith(".")


def build_root(given: str, *, is_recursive: bool) -> Root:
    """Inspect a given path. A path that does not exist counts as a file that may be created."""
    path = os.path.abspath(given)
    return Root(path, given, os.path.isdir(path), is_recursive)


def list_files(root: Root) -> Iterator[str]:
    """List the files of a root, in no particular order. Raises OSError if its folder cannot be read."""
    if not root.is_folder:
        if os.path.lexists(root.path):
            yield root.path
        return
    folders = [(root.path, 0)]
    while folders:
        folder, depth = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError:
            if folder == root.path:
                raise
            continue  # removed or inaccessible since; its contents count as removed
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                if root.is_recursive and depth < MAX_FOLDER_DEPTH and not entry.name.startswith("."):
                    folders.append((entry.path, depth + 1))
            elif is_manifest_name(entry.name):
                yield entry.path


def has_manifests_below(path: str) -> bool:
    """Whether a sub-folder has a file that `-R` would read; at most FOLDERS_SEARCHED are searched."""
    folders, searched = [path], 0
    while folders and searched < FOLDERS_SEARCHED:
        searched += 1
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if not entry.name.startswith("."):
                            folders.append(entry.path)
                    elif folder != path and is_manifest_name(entry.name):
                        return True
        except OSError:
            continue
    return False


def read_signature(path: str) -> Signature | None:
    """Read the signature of a file, through links; None if nothing is there, not even a broken link.

    A file that cannot be inspected also has a signature, that of its link or an empty one, so that reading it is tried
    and the error is reported.
    """
    try:
        status = os.stat(path)
    except OSError:
        try:
            status = os.lstat(path)
        except OSError as error:
            return None if isinstance(error, FileNotFoundError | NotADirectoryError) else Signature(0, 0, 0, 0, 0)
    return _sign(status)


def read_content(path: str, shown: str) -> tuple[Signature, bytes]:
    """Read a file; the signature is from before the read. Raises ManifestError if it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a device can have side effects
            raise ManifestError(shown, "is not a regular file")
        # Do not block on a FIFO that replaced the file in the meantime.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ManifestError(shown, _describe(path, error)) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ManifestError(shown, "is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ManifestError(shown, f"has {status.st_size} bytes; the limit is {MAX_FILE_BYTES}")
        return _sign(status), _read_all(descriptor, shown)
    except OSError as error:
        raise ManifestError(shown, _describe(path, error)) from error
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, shown: str) -> bytes:
    """Read to the end, which may move during the read."""
    with open(descriptor, "rb", closefd=False) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ManifestError(shown, f"grew above the limit of {MAX_FILE_BYTES} bytes")
    return content


def _sign(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _describe(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return "is a broken link"
    return f"cannot be read: {error.strerror or type(error).__name__}"
