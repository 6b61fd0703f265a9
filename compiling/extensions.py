"""Makes C of the engine's modules and compiles it: a program, for mypyc ends the process that it fails in.

Run by `engine.py`, in the root of the source tree: `extensions.py LIBRARY C_FOLDER MYPY_CACHE MODULE... -- build_ext
OPTIONS`. The compiled modules share the one library `LIBRARY__mypyc`: calls between them are calls of C functions.
`MYPYC_OPT_LEVEL` in the environment is the C compiler's level of optimization, 3 by default.

The library is compiled in parts, one for each core at a time: the time that the C compiler needs for a file grows
faster than the file.
"""

import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import setuptools
from mypyc.build import mypycify
from setuptools.command.build_ext import build_ext

PART_BYTES = 2_500_000
"""How much C, without indentation, one part has at least; the last one may have less."""
FLAGS = ("-fvisibility=hidden",)
"""Without it, Python's flags let every function be replaced at run time: none is inlined, each is called indirectly."""
_find_weak_lists = re.compile(r"^\s*\.tp_weaklistoffset = .*\n", re.MULTILINE)
_find_wrong_conditions = re.compile(r"\blikely\((\w+(?:\.f\d+)+) != (-?[\w.]+) && PyErr_Occurred\(\)\)")
_find_indentation = re.compile(r"^[ \t]+", re.MULTILINE)


class ParallelBuild(build_ext):  # type: ignore[misc]  # setuptools takes its base from Cython where that is installed
    """Compiles the sources of the library side by side, and then the modules."""

    extensions: list[setuptools.Extension]

    def build_extensions(self) -> None:
        """Build the library first, which has many sources, and then the modules, which have one each."""
        self.parallel = os.cpu_count() or 1
        extensions = sorted(self.extensions, key=lambda extension: -len(extension.sources))
        self.extensions = extensions[:1]
        super().build_extensions()
        self.extensions = extensions[1:]
        super().build_extensions()
        self.extensions = extensions

    def build_extension(self, ext: setuptools.Extension) -> None:
        """Build one extension."""
        if len(ext.sources) > 1:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = pool.map(partial(self._compile, ext), ext.sources)
                ext.extra_objects = [name for names in compiled for name in names]
            ext.sources = []
        super().build_extension(ext)

    def _compile(self, extension: setuptools.Extension, source: str) -> list[str]:
        objects: list[str] = self.compiler.compile(
            [source],
            output_dir=self.build_temp,
            include_dirs=extension.include_dirs,
            extra_postargs=extension.extra_compile_args,
        )
        return objects


def main() -> None:
    """Compile what the arguments say."""
    split = sys.argv.index("--")
    library, c_folder, cache, *modules = sys.argv[1:split]
    # The settings of pyproject.toml are for `make lint`. A build sees few of the dependencies, and checks no style.
    options = ["--config-file=", "--ignore-missing-imports", f"--cache-dir={cache}"]
    extensions = mypycify(
        [*options, *modules],
        target_dir=c_folder,
        group_name=library,
        opt_level=os.environ.get("MYPYC_OPT_LEVEL", "3"),
        debug_level="0",
        multi_file=True,
    )
    for file in Path(c_folder).rglob("*.c"):
        refuse_weak_references(file)
        correct_conditions(file)
    for extension in extensions:
        extension.extra_compile_args = [*extension.extra_compile_args, *FLAGS]  # all have the same list
        if len(extension.sources) > 1:
            headers = Path(c_folder, *library.split(".")[:-1])  # mypyc writes them there, and looks beside each source
            extension.include_dirs = [*extension.include_dirs, str(headers), c_folder]
            extension.sources = join_sources(extension.sources, Path(c_folder))
    setuptools.setup(
        name="maesh-engine",
        packages=[],
        py_modules=[],
        ext_modules=extensions,
        cmdclass={"build_ext": ParallelBuild},
        script_args=sys.argv[split + 1 :],
    )


def join_sources(sources: Sequence[str], folder: Path) -> list[str]:
    """Write files that include the sources, about as large as `PART_BYTES`; return their names."""
    parts: list[list[Path]] = [[]]
    size = 0
    for source in map(Path, sources):
        if size >= PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(source)
        size += len(_find_indentation.sub("", source.read_text()))
    names = []
    for number, part in enumerate(parts):
        file = folder / f"part_{number}.c"
        file.write_text("".join(f'#include "{source.resolve()}"\n' for source in part))
        names.append(str(file))
    return names


def refuse_weak_references(file: Path) -> None:
    """Have `weakref.ref` raise TypeError for objects of compiled classes.

    mypyc gives those that have a `__dict__` a list of weak references too, which it does not clear when the object
    goes: a weak reference that outlives it reads freed memory. Python 3.12 and later have no such list.
    """
    text = file.read_text()
    changed = _find_weak_lists.sub("", text)
    if changed != text:
        file.write_text(changed)


def correct_conditions(file: Path) -> None:
    """Correct the conditions by which a function goes on if a constant tuple of numbers is set.

    Such a tuple is not set if its first number has a certain value and an exception is set. Where the branch for a
    tuple that is set comes first, mypyc negates only the first half of that, so that the function always raises
    NameError.
    """
    text = file.read_text()
    changed = _find_wrong_conditions.sub(r"likely(!(\1 == \2 && PyErr_Occurred()))", text)
    if changed != text:
        file.write_text(changed)


if __name__ == "__main__":
    main()
