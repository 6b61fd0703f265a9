"""Builds the compiled form of modules, which maesh_core/compiled.py loads: of the engine's, and of plugins.

modules.txt lists the engine's, `tool.maesh.compiled` in a plugin's pyproject.toml its own. A build of the same sources
by the same tools is taken from `build/engine` beside pyproject.toml, where each has a folder. Uses the standard
library alone, for it also has to say why there is no compiled form. As a program:

    engine.py build     compile into `_compiled` of maesh_core and of each plugin in `plugins`, for the tree's own use
    engine.py refresh   remove what is there of other sources, and else do nothing
    engine.py remove    remove what is there
"""

import ast
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from maesh_core.compiled import (  # noqa: E402
    FOLDER,
    MANIFEST,
    PURE_VARIABLE,
    CompiledFinder,
    hash_source,
)

MODULES = Path(__file__).with_name("modules.txt")
PLUGINS = "plugins/*/pyproject.toml"
EXTENSIONS = Path(__file__).with_name("extensions.py")
CORE_PACKAGE = "maesh_core"
KEPT_BUILDS = 4


class Engine:
    """The compiled form of one source tree's package; `modules` are paths of sources, relative to `root`.

    A plugin's may import modules of `maesh_core`, which is in the folder `core` then.
    """

    def __init__(self, root: Path, package: str, modules: Sequence[str], *, core: Path | None = None) -> None:
        self.root = root
        self.core = core
        self.package = root / package
        self.modules = modules
        self.library = f"{package}.engine__mypyc"
        self.builds = root / "build" / "engine"
        self.log = self.builds / "log"

    def build(self) -> Path:
        """Compile, unless that was done before; return the folder of the result. Raises NotCompiledError."""
        check_machine()
        check_mypy()
        sources = self.list_sources()
        folder = self.builds / self._compute_key(sources)
        if not (folder / MANIFEST).exists():
            self._compile(folder, sources)
        os.utime(folder)
        self._drop_old_builds()
        return folder

    def list_sources(self) -> list[str]:
        """List the files that the compiled modules are made from: themselves, and all that they import.

        These are files of the package, and of the core if the package is a plugin. A compiled module may have a
        constant or a type of another module in its code.
        """
        found: dict[str, None] = dict.fromkeys(self.modules)
        waiting = list(found)
        while waiting:
            for path in self._list_imports(waiting.pop()):
                if path not in found:
                    found[path] = None
                    waiting.append(path)
        return sorted(found)

    def install(self, folder: Path) -> None:
        """Have the tree's own package load the result of `build` from now on."""
        self.remove()
        shutil.copytree(folder, self.package / FOLDER)

    def remove(self) -> None:
        """Take out the compiled form."""
        shutil.rmtree(self.package / FOLDER, ignore_errors=True)

    def refresh(self) -> str:
        """Take out a compiled form that does not fit the sources, and say why; empty where there is none such."""
        finder = CompiledFinder(str(self.package), core=str((self.core or self.root) / CORE_PACKAGE))
        if finder.is_stale:
            self.remove()
            return finder.reason
        return ""

    def _list_imports(self, path: str) -> Iterator[str]:
        tree = ast.parse(self._locate(path).read_bytes())
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.partition(".")[0] in (self.package.name, CORE_PACKAGE):
                    file = name.replace(".", "/")
                    yield from (path for path in (f"{file}.py", f"{file}/__init__.py") if self._locate(path).is_file())

    def _locate(self, path: str) -> Path:
        """Locate a source of the package, or of the core."""
        is_own = self.core is None or path.partition("/")[0] == self.package.name
        return (self.root if is_own else self.core or self.root) / path

    def _describe_source(self, path: str) -> str:
        """Build the line of the manifest for one source."""
        package, _, place = path.partition("/")
        return f"{'source' if package == self.package.name else 'core'} {place} {hash_source(str(self._locate(path)))}"

    def _compute_key(self, sources: Iterable[str]) -> str:
        digest = blake2b(digest_size=10)
        flags = [os.environ.get(name, "") for name in ("CC", "CFLAGS", "LDFLAGS", "MYPYC_OPT_LEVEL")]
        for text in (str(sysconfig.get_config_var("EXT_SUFFIX")), version("mypy"), *flags, *self.modules):
            digest.update(text.encode() + b"\0")
        for path in (*sources, str(EXTENSIONS)):
            content = self._locate(path).read_bytes()
            digest.update(b"%b %d\0%b" % (os.fsencode(path), len(content), content))
        return digest.hexdigest()

    def _compile(self, folder: Path, sources: Sequence[str]) -> None:
        self.builds.mkdir(parents=True, exist_ok=True)
        # Hashed before they are compiled: what is edited meanwhile does not fit the result.
        lines = [self._describe_source(path) for path in sources]
        library = self.builds / "lib"
        shutil.rmtree(library, ignore_errors=True)
        command = [sys.executable, str(EXTENSIONS), self.library.removesuffix("__mypyc")]
        # Plugins share what mypy knows of the core.
        cache = self.builds / "mypy" if self.core is None else self.core / "build" / "engine" / "mypy-plugins"
        command += [str(self.builds / "c"), str(cache), *self.modules]
        environment = os.environ if self.core is None else os.environ | {"MYPYPATH": str(self.core)}
        command += ["--", "build_ext", "--build-lib", str(library), "--build-temp", str(self.builds / "objects")]
        with self.log.open("w") as log:
            ended = subprocess.run(  # noqa: S603
                command, cwd=self.root, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
            )
        if ended.returncode:
            raise NotCompiledError(f"compiling failed: {_find_error(self.log.read_text(errors='replace'))}")
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for file in sorted(library.rglob("*.*")):
            path = file.relative_to(library)
            name = path.with_suffix("").with_suffix("").as_posix().replace("/", ".")
            if name == self.library:  # modules that it loads derive their `__file__` from where it is
                path = Path(path.name)
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, partial / path)
            lines.append(f"module {name} {path}")
        (partial / MANIFEST).write_text("".join(f"{line}\n" for line in lines))
        partial.rename(folder)

    def _drop_old_builds(self) -> None:
        builds = [path.parent for path in self.builds.glob(f"*/{MANIFEST}")]
        for folder in sorted(builds, key=lambda each: each.stat().st_mtime)[:-KEPT_BUILDS]:
            shutil.rmtree(folder)


class NotCompiledError(Exception):
    """There is no compiled form; the text says why, in a few words."""


def check_machine() -> None:
    """Check that this machine can compile C for this Python, and is meant to. Raises NotCompiledError."""
    if os.environ.get(PURE_VARIABLE):
        raise NotCompiledError(f"{PURE_VARIABLE} is set")
    if sys.implementation.name != "cpython":
        raise NotCompiledError("only CPython loads compiled modules")
    if not has_compiler():
        raise NotCompiledError("no C compiler was found")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise NotCompiledError("the C headers of this Python are not installed")


def check_mypy() -> None:
    """Check that mypyc, which is a part of mypy, is installed. Raises NotCompiledError."""
    try:
        version("mypy")
    except PackageNotFoundError:
        raise NotCompiledError("mypy is not installed") from None


def has_compiler() -> bool:
    """Say whether there is a C compiler where setuptools looks for one."""
    command = shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc"))
    return bool(command) and shutil.which(command[0]) is not None


def read_modules() -> list[str]:
    """Read the list of the engine's modules to compile."""
    return [line for line in MODULES.read_text().split("\n") if line and not line.startswith("#")]


def open_engine(folder: Path) -> Engine:
    """Open what the project in a folder has to compile: the engine, or a plugin that names modules of one package."""
    if folder == ROOT:
        return Engine(ROOT, CORE_PACKAGE, read_modules())
    settings = tomllib.loads((folder / "pyproject.toml").read_text())
    modules: list[str] = settings["tool"]["maesh"]["compiled"]
    return Engine(folder, modules[0].partition("/")[0], modules, core=ROOT)


def open_all() -> list[Engine]:
    """Open the engine, and the plugins of this tree that name modules to compile."""
    plugins = sorted(path.parent for path in ROOT.glob(PLUGINS) if "[tool.maesh]" in path.read_text())
    return [open_engine(folder) for folder in (ROOT, *plugins)]


def _find_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = next((line for line in lines if "error:" in line), lines[-1] if lines else "it said nothing")
    return found[:200]


def build_all(engines: Sequence[Engine]) -> int:
    """Build and install; give the exit status."""
    status = 0
    for engine in engines:
        began = time.monotonic()
        try:
            engine.install(engine.build())
        except NotCompiledError as error:
            engine.remove()
            name = engine.package.name
            print(f"{name} is not compiled: {error}. Its plain Python runs. Output of the tools, if any: {engine.log}")
            status = 1
        else:
            count, took_s = len(engine.modules), time.monotonic() - began
            print(f"{engine.package.name} is compiled: {count} modules in {took_s:.0f} s")
    return status


def main(arguments: Sequence[str]) -> int:
    """Do what one argument says, for the tree that this file is in; give the exit status."""
    engines = open_all()
    if arguments == ["build"]:
        return build_all(engines)
    if arguments == ["refresh"]:
        for engine in engines:
            if reason := engine.refresh():
                name = engine.package.name
                print(f"{name}: removed, {reason}. The plain Python runs; `make compiled` compiles it again.")
    elif arguments == ["remove"]:
        for engine in engines:
            engine.remove()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
