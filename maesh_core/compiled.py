"""Loads modules of the engine and of plugins in compiled form, if that was made from the sources that are there.

The build (compiling/engine.py) puts extension modules and a manifest into the folder `_compiled` of a package. Python
does not look there by itself, so a source is what runs unless this module has compared it. The extensions of a package
call each other as C functions: all of them are used, or none. Imports next to nothing, for `import maesh_core` does
this work in every process. The engine's manifest takes 2 ms, for the hashes of about 60 files; those of plugins share
the hashes of the core's sources. Any other package costs two failed `open`s, when its first submodule is imported.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import source_hash, spec_from_file_location
from types import ModuleType

CORE = os.path.dirname(os.path.abspath(__file__))
"""The folder of the package that this module is in."""
FOLDER = "_compiled"
MANIFEST = "manifest"
"""Lines: `module NAME FILE` of an extension in the same folder, `source PATH HASH` of what it was made from.

PATH is relative to the package's folder. In a plugin's, `core PATH HASH` is a source of maesh_core. HASH is
`importlib.util.source_hash`, which pyc files use too; it differs between versions of Python, as extensions do.
"""
REASON = "reason"
"""Holds one line in place of a manifest: why the build gave up compiling."""
PURE_VARIABLE = "MAESH_PURE"
"""Any value but the empty one: run the sources, and when building compile nothing."""
NOT_COMPILED = "it was not compiled"
"""The reason of a package that has nothing compiled, and never tried."""

COMPILED, PURE = "compiled", "pure"


class CompiledFinder:
    """Finds the compiled modules of one package, given its folder and, if it is another than this one, the core's.

    `reason` is empty while it finds them. Otherwise it says in a few words why the sources run.
    """

    __slots__ = ("_core", "_files", "_folder", "_hash", "_package", "is_stale", "reason")

    def __init__(
        self,
        package: str,
        *,
        core: str | None = None,
        is_wanted: bool = True,
        hash_file: Callable[[str], str | None] | None = None,
    ) -> None:
        self._package = package
        self._core = core or CORE
        self._hash = hash_file or hash_source
        self._folder = os.path.join(package, FOLDER)
        self._files: Mapping[str, str] = {}
        self.is_stale = False
        """Whether there are compiled modules, of other sources than are there now."""
        self.reason = self._load() if is_wanted else f"{PURE_VARIABLE} is set"

    def __repr__(self) -> str:
        """Show what it finds."""
        return f"<CompiledFinder {len(self._files)} modules {self.reason}>"

    def find_spec(self, name: str) -> ModuleSpec | None:
        """Find one module."""
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
            return (read_text(os.path.join(self._folder, REASON)) or NOT_COMPILED).strip()
        files: dict[str, str] = {}
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            name, _, value = rest.partition(" ")
            if kind == "module":
                files[name] = value
                is_current, what = value.endswith(EXTENSION_SUFFIXES[0]), "this Python"
            else:
                folder = self._core if kind == "core" else self._package
                what = os.path.join(os.path.basename(self._core), name) if kind == "core" else name
                is_current = self._hash(os.path.join(folder, name)) == value
            if not is_current:
                self.is_stale = True
                return f"the compiled modules do not fit {what}"
        self._files = files
        return ""


class PackageFinder:
    """A finder of `sys.meta_path`: looks into each package for its compiled modules, once.

    A package is asked for its folder when its first submodule is imported; its `__init__` runs as Python.
    """

    __slots__ = ("_hash", "_packages")

    def __init__(self, packages: Mapping[str, CompiledFinder], hash_file: Callable[[str], str | None]) -> None:
        self._packages = dict(packages)
        self._hash = hash_file

    def __repr__(self) -> str:
        """Show which packages have compiled modules."""
        return f"<PackageFinder {[name for name, finder in self._packages.items() if not finder.reason]}>"

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module in a package."""
        del path, target
        package, dot, _ = name.partition(".")
        if not dot:
            return None
        finder = self._packages.get(package)
        if finder is None:
            paths = getattr(sys.modules.get(package), "__path__", None)
            finder = CompiledFinder(next(iter(paths or ()), os.devnull), hash_file=self._hash)
            self._packages[package] = finder
            if finder.is_stale:
                _warn(f"{package}: {finder.reason}")
        return finder.find_spec(name)


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
    """Let imports find compiled modules of this package and of plugins; return the finder of this package.

    Says in one line on standard error which compiled modules are not used since they do not fit.
    """
    is_wanted = not os.environ.get(PURE_VARIABLE)
    hash_file = cache(hash_source)
    finder = CompiledFinder(CORE, is_wanted=is_wanted, hash_file=hash_file)
    if is_wanted:
        sys.meta_path.insert(0, PackageFinder({os.path.basename(CORE): finder}, hash_file))
    if finder.is_stale:
        _warn(finder.reason)
    return finder


def _warn(text: str) -> None:
    sys.stderr.write(f"maesh: warning: {text}; the plain Python runs (make compiled builds them again)\n")
