"""Builds this plugin: compiled by what the repository that it is in has for that, elsewhere as plain Python.

pyproject.toml names this module as the build backend, and setuptools runs it as a program.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
COMPILING = FOLDER.parents[1] / "compiling"

# An sdist is unpacked in a folder for temporary files, where the folders above may hold what others have put there.
if FOLDER.parent.name == "plugins" and (COMPILING / "commands.py").is_file():
    sys.path.insert(0, str(COMPILING))
    from backend import *  # noqa: F403 - the hooks of PEP 517
    from commands import run_setup
else:
    reason = "it is built outside of Maesh's repository"
    print(f"maesh-concurrency: not compiled, the plain Python will run: {reason}", file=sys.stderr)
    from setuptools import setup as run_setup
    from setuptools.build_meta import *  # noqa: F403

if __name__ == "__main__":
    run_setup()
