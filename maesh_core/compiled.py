"""Loads the engine's modules in compiled form, where there is one and it was made from the sources that are there.

The build (compiling/engine.py) puts extension modules and a manifest into the folder `_compiled`. Python does not look
there by itself, so a source is what runs unless this module has compared it. The extensions call each other as C
functions: all of them are used, or none. Imports next to nothing, for `import maesh_core` does this work in every
process. Without a manifest it costs one failed `open`; with one, 2 ms for the hashes of about 60 files.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import source_hash, spec_from_file_location
from types import ModuleType

FOLDER = "_compiled"
MANIFEST = "manifest"
"""Lines: `module NAME FILE` of an extension in the same folder, `source PATH HASH` of what it was made from.

PATH is relative to the package's folder. HASH is `importlib.util.source_hash`, which pyc files use too; it differs
between versions of Python, as extensions do.
"""
REASON = "reason"
"""Holds one line in place of a manifest: why the build gave up compiling."""
PURE_VARIABLE = "MAESH_PURE"
"""Any value but the empty one: run the sources, and when building compile nothing."""

COMPILED, PURE = "compiled", "pure"


class CompiledFinder:
    """Finds the compiled modules of one folder; a finder of `sys.meta_path`.

    `reason` is empty while it finds them. Otherwise it says in a few words why the sources run.
    """

    __slots__ = ("_files", "_folder", "_package", "is_stale", "reason")

    def __init__(self, package: str, *, is_wanted: bool = True) -> None:
        self._package = package
        self._folder = os.path.join(package, FOLDER)
        self._files: Mapping[str, str] = {}
        self.is_stale = False
        """Whether there are compiled modules, of other sources than are there now."""
        self.reason = self._load() if is_wanted else f"{PURE_VARIABLE} is set"

    def __repr__(self) -> str:
        """Show what it finds."""
        return f"<CompiledFinder {len(self._files)} modules {self.reason}>"

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one module."""
        del path, target
        file = self._files.get(name)
        if file is None:
            return None
        location = os.path.join(self._folder, file)
        return spec_from_file_location(name, location, loader=ExtensionFileLoader(name, location))

    @property
    def form(self) -> str:
        """The form in which the modules are loaded: `compiled` or `pure`."""
        return PURE if self.reason else COMPILED

    def _load(self) -> str:
        text = read_text(os.path.join(self._folder, MANIFEST))
        if text is None:
            return (read_text(os.path.join(self._folder, REASON)) or "it was not compiled").strip()
        files: dict[str, str] = {}
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            name, _, value = rest.partition(" ")
            if kind == "module":
                files[name] = value
                is_current, what = value.endswith(EXTENSION_SUFFIXES[0]), "this Python"
            else:
                is_current, what = hash_source(os.path.join(self._package, name)) == value, name
            if not is_current:
                self.is_stale = True
                return f"the compiled modules do not fit {what}"
        self._files = files
        return ""


def hash_source(path: str) -> str | None:
    """Hash a source file as the manifest has it; None where there is none."""
    try:
        with open(path, "rb") as file:
            return source_hash(file.read()).hex()
    except OSError:
        return None


def read_text(path: str) -> str | None:
    """Read a small file; None where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def install_finder() -> CompiledFinder:
    """Have the compiled modules of this package found from now on; says in one line on standard error if it cannot."""
    folder = os.path.dirname(os.path.abspath(__file__))
    finder = CompiledFinder(folder, is_wanted=not os.environ.get(PURE_VARIABLE))
    if not finder.reason:
        sys.meta_path.insert(0, finder)
    elif finder.is_stale:
        sys.stderr.write(f"maesh: warning: {finder.reason}; the plain Python runs (make compiled builds them again)\n")
    return finder
