"""The build backend that pyproject.toml names: that of setuptools, and what compiling needs where it is possible.

Only a wheel is compiled. An editable install, and a machine without a C compiler, need no mypy.
"""

import sys
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the hooks of PEP 517 that are setuptools' own

sys.path.insert(0, str(Path(__file__).parent))

from engine import ROOT, NotCompiledError, check_machine

COMPILING = ("mypy", "msgspec")
"""What compiling imports: mypyc is a part of mypy, which reads the types of messages in msgspec."""


def get_requires_for_build_wheel(config_settings: dict[str, str | list[str] | None] | None = None) -> list[str]:
    """List what a wheel's build needs beyond setuptools, in the versions that constraints.txt pins."""
    needed: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    try:
        check_machine()
    except NotCompiledError:
        return needed
    pins = (ROOT / "constraints.txt").read_text().split()
    return needed + [pin for pin in pins if pin.partition("==")[0] in COMPILING]
