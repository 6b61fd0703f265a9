"""The build backend that pyproject.toml names: that of setuptools, which setup.py extends, and what compiling needs.

Only a wheel is compiled, and only where a C compiler is: an editable install, and a machine without a compiler, need no
mypy.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.build_meta import get_requires_for_build_wheel as list_requirements

sys.path.insert(0, str(Path(__file__).parent))

from engine import ROOT, NotCompiledError, check_machine

COMPILING = ("mypy", "msgspec")
"""What compiling imports: mypy is what compiles, and takes the types of messages from msgspec."""

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = Mapping[str, str | list[str] | None] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """List what is needed to build a wheel beyond setuptools, in the versions of constraints.txt."""
    needed: list[str] = list_requirements(config_settings)
    try:
        check_machine()
    except NotCompiledError:
        return needed
    pins = (ROOT / "constraints.txt").read_text().split()
    return needed + [pin for pin in pins if pin.partition("==")[0] in COMPILING]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """List what is needed for an editable install: it runs the sources, and compiles nothing."""
    needed: list[str] = list_requirements(config_settings)
    return needed
