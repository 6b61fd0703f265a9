"""Makes C of the engine's modules and compiles it: a program, for mypyc ends the process that it fails in.

Run by `engine.py`, in the root of the source tree: `extensions.py LIBRARY C_FOLDER MYPY_CACHE MODULE... -- build_ext
OPTIONS`. The compiled modules share the one library `LIBRARY__mypyc`: calls between them are calls of C functions.
`MYPYC_OPT_LEVEL` in the environment is the C compiler's level of optimization, 3 by default.
"""

import os
import re
import sys
from pathlib import Path

import setuptools
from mypyc.build import mypycify

_find_weak_lists = re.compile(r"^\s*\.tp_weaklistoffset = .*\n", re.MULTILINE)


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
    )
    for file in Path(c_folder).rglob("*.c"):
        refuse_weak_references(file)
    setuptools.setup(
        name="maesh-engine", packages=[], py_modules=[], ext_modules=extensions, script_args=sys.argv[split + 1 :]
    )


def refuse_weak_references(file: Path) -> None:
    """Have `weakref.ref` raise TypeError for objects of compiled classes.

    mypyc gives those that have a `__dict__` a list of weak references too, which it does not clear when the object
    goes: a weak reference that outlives it reads freed memory. Python 3.12 and later have no such list.
    """
    text = file.read_text()
    changed = _find_weak_lists.sub("", text)
    if changed != text:
        file.write_text(changed)


if __name__ == "__main__":
    main()
