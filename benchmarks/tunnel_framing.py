"""What the frames of a tunnel cost for a request: those of HTTP/2, leaner ones, and none.

Takes the pairs of framing_pairs.py, and prints two tables: CPU time by interleaved rounds, and instructions by
callgrind, which other load of the machine does not change. Both are for both ends and both directions, with TLS, and
without an HTTP engine. The lean frames are compiled if the engine is.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from framing_pairs import RESPONSE, build_pairs
from instructions import read_total
from processes import run_to_end
from tables import render_rows

from maesh_core import engine

PROTOTYPE = "lean_frames"
REQUEST = b"G" * 272
"""As long as a small request is in benchmarks/mtls.py."""
BODY = b"B" * 65536
BATCHES = (1, 16)
LOADS = (*((f"a request, {each} at a time", each, REQUEST) for each in BATCHES), ("64 KiB up", 1, BODY))
ROUND_S = 0.1
FRAMINGS = ("h2", "lean", "none")
COUNTED_ROUNDS = 50
INSIDE = "--inside"
HERE = Path(__file__).resolve().parent


def measure(carry: Callable[[], None]) -> float:
    """Measure one call, in microseconds of CPU."""
    count, began = 0, time.thread_time()
    while (used_s := time.thread_time() - began) < ROUND_S:
        for _ in range(50):
            carry()
        count += 50
    return used_s * 1e6 / count


async def measure_all(runs: int) -> list[list[str]]:
    """Measure all framings in turns; returns the rows of the table."""
    pairs = await build_pairs()
    found: dict[tuple[str, str], list[float]] = {}
    for title, batch, request in LOADS:
        for pair in pairs.values():
            pair.set_answer(RESPONSE if request is REQUEST else b"")
        for _ in range(runs):
            for name, pair in pairs.items():
                each_us = measure(partial(pair.carry, batch, request)) / batch
                found.setdefault((name, title), []).append(each_us)
    return [[name, *(f"{statistics.median(found[name, title]):.2f}" for title, _, _ in LOADS)] for name in pairs]


async def carry_for_counting() -> None:
    """Carry requests between two calls of getppid; called inside valgrind."""
    pairs = await build_pairs()
    for name in FRAMINGS:
        for batch in BATCHES:
            for _ in range(10):
                pairs[name].carry(batch, REQUEST)
            os.getppid()
            for _ in range(COUNTED_ROUNDS):
                pairs[name].carry(batch, REQUEST)
            os.getppid()


def count_instructions(folder: Path) -> list[list[str]]:
    """Count the instructions of a request, both ends and both directions, by callgrind; returns rows of a table."""
    command = ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder}/out"]
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"}
    done = subprocess.run([*command, sys.executable, __file__, INSIDE], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    rows, number = [], 0
    for name in FRAMINGS:
        row = [name]
        for batch in BATCHES:
            number += 2
            row.append(f"{read_total(folder / f'out.{number}') / COUNTED_ROUNDS / batch:,.0f}")
        rows.append(row)
    return rows


def compile_prototype(folder: Path) -> None:
    """Compile the prototype as the engine is compiled, and import it from there."""
    shutil.copy(HERE / f"{PROTOTYPE}.py", folder)
    setup = "import sys; from setuptools import setup; from mypyc.build import mypycify; setup(name='lean',"
    setup += f"ext_modules=mypycify(['--config-file=', '{PROTOTYPE}.py'], opt_level='3', debug_level='0'))"
    (folder / "setup.py").write_text(setup)
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=folder, check=True, capture_output=True)


def main() -> int:
    """Measure, and print the tables."""
    if sys.argv[1:2] == [INSIDE]:
        sys.path.insert(0, os.environ["PYTHONPATH"])
        asyncio.run(carry_for_counting())
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15, help="interleaved rounds of each framing (default 15)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if engine.form == "compiled":
            compile_prototype(folder)
        else:
            shutil.copy(HERE / f"{PROTOTYPE}.py", folder)
        sys.path.insert(0, name)
        os.environ["PYTHONPATH"] = name
        print(f"CPU µs for both ends and both directions; the engine is {engine.form}.\n")
        print(render_rows(["frames", *(title for title, _, _ in LOADS)], asyncio.run(measure_all(options.runs))))
        if shutil.which("valgrind"):
            print("\nInstructions of a request:\n")
            print(render_rows(["frames", *(f"{each} at a time" for each in BATCHES)], count_instructions(folder)))
    return 0


if __name__ == "__main__":
    run_to_end(main)
