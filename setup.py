"""Builds the mesh: setuptools runs this file, and what it does beyond pyproject.toml is in compiling/commands.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT / "compiling"), str(ROOT)]

from commands import run_setup  # noqa: E402

if __name__ == "__main__":
    run_setup()
