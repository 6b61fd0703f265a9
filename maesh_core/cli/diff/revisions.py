"""Writes the manifests of a git revision to a folder, with the program `git`.

Takes a revision, a path relative to the working directory, and a folder. Reads the repository's objects only: no
checkout, no hook and no filter runs. Links are left out: they could name files outside. Raises StartupError.
"""

import os
import posixpath
import subprocess
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from maesh_core.controller.discovery.manifests.files import MAX_FILE_BYTES, SUFFIXES
from maesh_core.errors import StartupError

GIT_TIMEOUT_S = 60.0
FILES_LIMIT = 20_000
BYTES_LIMIT = 512 * 1024 * 1024
"""Limit of all files together, which are written to a temporary folder."""
_SAFE = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never")
"""git starts no program that the repository's configuration names, and fetches nothing."""


class TreeFile(NamedTuple):
    """A file of a revision: the hash of its content, its size, and its path from the root of the repository."""

    content: str
    size: int
    path: str


def write_revision(revision: str, path: str, folder: Path, *, is_recursive: bool) -> Path:
    """Write the manifests at a path of a revision below a folder; returns the path of what was written."""
    commit = _run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", what=revision)
    prefix = _run("rev-parse", "--show-prefix", what=revision).decode().rstrip("\n")
    wanted = _resolve(path, prefix)
    listed = _list_files(commit.decode().strip(), wanted)
    if not listed:
        raise StartupError(f"git:{revision}:{path}: no such file or folder in this revision")
    if any(each.path == wanted for each in listed):
        chosen = listed
    else:
        chosen = [each for each in listed if _is_manifest(each.path, wanted, is_recursive=is_recursive)]
    if len(chosen) > FILES_LIMIT:
        raise StartupError(f"git:{revision}:{path}: more than {FILES_LIMIT} files")
    if sum(each.size for each in chosen) > BYTES_LIMIT:
        raise StartupError(f"git:{revision}:{path}: its files have more than {BYTES_LIMIT} bytes")
    for each in chosen:
        _write(each, folder)
    target = folder / wanted if wanted else folder
    if not target.exists():
        target.mkdir(parents=True)  # a folder without manifests
    return target


def _resolve(path: str, prefix: str) -> str:
    """Resolve a path from the working directory to one from the root; empty for the root itself."""
    if os.path.isabs(path):
        root = _run("rev-parse", "--show-toplevel", what=path).decode().rstrip("\n")
        found = posixpath.normpath(os.path.relpath(os.path.realpath(path), root))
    else:
        found = posixpath.normpath(posixpath.join(prefix, path))
    if found == ".." or found.startswith("../"):
        raise StartupError(f"{path} is outside of the git repository")
    return "" if found == "." else found


def _list_files(commit: str, wanted: str) -> list[TreeFile]:
    arguments = ["ls-tree", "-r", "-l", "-z", "--full-tree", commit]
    output = _run(*arguments, *(["--", f":(literal){wanted}"] if wanted else []), what=wanted or "the repository")
    found = []
    for entry in output.split(b"\0"):
        head, tab, name = entry.partition(b"\t")
        fields = head.split()
        if tab and len(fields) == 4 and fields[1] == b"blob" and fields[0] != b"120000":
            found.append(TreeFile(fields[2].decode(), int(fields[3]), os.fsdecode(name)))
    return found


def _is_manifest(path: str, wanted: str, *, is_recursive: bool) -> bool:
    below = path.removeprefix(f"{wanted}/") if wanted else path
    parts = PurePosixPath(below).parts
    return path.endswith(SUFFIXES) and (is_recursive or len(parts) == 1) and ".." not in parts


def _write(file: TreeFile, folder: Path) -> None:
    if file.size > MAX_FILE_BYTES:
        raise StartupError(f"{file.path} has more than {MAX_FILE_BYTES} bytes")
    target = folder / file.path
    if ".." in PurePosixPath(file.path).parts or PurePosixPath(file.path).is_absolute():
        raise StartupError(f"{file.path!r} is not a path within a repository")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_run("cat-file", "blob", file.content, what=file.path))
    os.utime(target, (1, 1))  # old files are read at once; new ones may still be written to


def _run(*arguments: str, what: str) -> bytes:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and arguments cannot be flags
            ["git", *_SAFE, *arguments],  # noqa: S607 - found in PATH, as by a user
            capture_output=True,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=GIT_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise StartupError("git is not installed, and git:REVISION needs it") from error
    except subprocess.TimeoutExpired as error:
        raise StartupError(f"git did not answer within {GIT_TIMEOUT_S:g} s") from error
    if done.returncode:
        text = " ".join(done.stderr.decode(errors="replace").split()) or "no such revision"
        raise StartupError(f"git cannot read {what}: {text}")
    return done.stdout
