"""What building a wheel does beyond pyproject.toml: it compiles the project's modules where that can be done.

Where it cannot, the wheel is for every machine (its name ends with `py3-none-any`), holds the reason, and the build
goes on. The project is the one in the folder that the build runs in: the mesh itself, or a plugin.
"""

import contextlib
import shutil
import sys
from functools import cached_property
from pathlib import Path

from engine import Engine, NotCompiledError, open_engine
from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

from maesh_core.compiled import FOLDER, REASON


class MaeshDistribution(Distribution):
    """Knows what was compiled: `compiled` is its folder, `reason` says why there is none."""

    compiled: Path | None = None
    reason = ""

    @cached_property
    def engine(self) -> Engine:
        """What there is to compile."""
        return open_engine(Path.cwd())

    def has_ext_modules(self) -> bool:
        """Say whether the wheel is for one platform alone."""
        return self.compiled is not None

    def compile_engine(self) -> None:
        """Compile, or say in one line why not."""
        try:
            self.compiled = self.engine.build()
        except NotCompiledError as error:
            self.reason = f"when it was built: {error}"
            say(f"{self.get_name()}: not compiled, the plain Python will run: {error}")


class Wheel(bdist_wheel):
    """Compiles before it decides for which platforms the wheel is."""

    distribution: MaeshDistribution

    def finalize_options(self) -> None:
        """Compile, unless only metadata or an editable install is asked for."""
        if "bdist_wheel" in self.distribution.commands:
            self.distribution.compile_engine()
        super().finalize_options()


class BuildPython(build_py):
    """Adds what was compiled, or why nothing was; nothing of former builds stays."""

    distribution: MaeshDistribution

    def run(self) -> None:
        """Build the packages."""
        if self.editable_mode:
            super().run()
            return
        source = self.distribution.engine.package
        package = Path(self.build_lib, source.name).resolve()
        if package != source.resolve():  # modules that were since removed or renamed must not be in the wheel
            shutil.rmtree(package, ignore_errors=True)
        super().run()
        folder = package / FOLDER
        if self.distribution.compiled is not None:
            shutil.copytree(self.distribution.compiled, folder)
        elif self.distribution.reason:
            folder.mkdir(parents=True)
            (folder / REASON).write_text(self.distribution.reason + "\n")


class EditableWheel(editable_wheel):
    """Leaves no compiled modules behind that do not fit the sources."""

    distribution: MaeshDistribution

    def run(self) -> None:
        """Build it."""
        self.distribution.engine.refresh()
        super().run()


def say(line: str) -> None:
    """Print a line, to the terminal too if there is one: pip shows a build's output only if it fails."""
    print(line, file=sys.stderr)
    if not sys.stderr.isatty():
        with contextlib.suppress(OSError), open("/dev/tty", "w") as terminal:
            terminal.write(f"\r{line}\n")


def run_setup() -> None:
    """Do what the arguments of the process say, as a setup.py does."""
    setup(
        distclass=MaeshDistribution,
        cmdclass={"bdist_wheel": Wheel, "build_py": BuildPython, "editable_wheel": EditableWheel},
    )
