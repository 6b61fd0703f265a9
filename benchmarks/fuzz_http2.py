"""Fuzzes HTTP/2: sends millions of random frames through the engine without sockets, and stops at the first defect.

    python benchmarks/fuzz_http2.py --frames 10000000 --seed 1

A defect is an exception, a log record, a wrong frame of the mesh, or something that is left when everybody has gone.
Its seed is printed: `--seed SEED --frames 1` repeats it. The frames are those of tests/proxy/http/http2/fuzzing.py.
"""

import argparse
import asyncio
import importlib
import logging
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from processes import run_to_end

from maesh_core.settings import CarryingSettings

ROOT = Path(__file__).resolve().parent.parent
FRAMES_PER_WORLD = 300


class RecordKeeper(logging.Handler):
    """Keeps log records, each of which is a defect."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as text."""
        self.texts.append(self.format(record))


def load_tests() -> tuple[Any, Any]:
    """Load the world and the fuzzer of the tests."""
    sys.path.insert(0, str(ROOT))
    return importlib.import_module("tests.proxy.http.conftest"), importlib.import_module(
        "tests.proxy.http.http2.fuzzing"
    )


async def fuzz_once(world_module: Any, fuzzing: Any, seed: int) -> int:
    """Fuzz one world; returns the number of frames."""
    choices = random.Random(seed)
    settings = CarryingSettings(
        node="node",
        http2_reset_limit=choices.choice((3, 200)),
        http2_control_limit=choices.choice((100, 1000)),
        http2_stream_limit=choices.choice((2, 100)),
    )
    scheme, servers = choices.choice(("h2c", "http")), choices.choice((1, 2))
    async with world_module._open_world(scheme=scheme, servers=servers, settings=settings) as world:
        return int(await fuzzing.fuzz(world, choices, FRAMES_PER_WORLD))


def main() -> int:
    """Fuzz until enough frames were sent."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=10_000_000, help="frames to send at least")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first world; the next one has the next number")
    options = parser.parse_args()
    keeper = RecordKeeper()
    logging.getLogger().addHandler(keeper)
    world_module, fuzzing = load_tests()
    sent, seed, started = 0, options.seed, time.monotonic()
    while sent < options.frames:
        try:
            sent += asyncio.run(fuzz_once(world_module, fuzzing, seed))
        except Exception:  # every error is what is looked for
            keeper.texts.append(traceback.format_exc())
        if keeper.texts:
            print(keeper.texts[0], f"Seed {seed} fails, after {sent:,} frames.", sep="\n", file=sys.stderr)
            return 1
        if seed % 500 == 0:
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{sent:,} frames, seed {seed}, {time.monotonic() - started:.0f} s, {peak_mb:.0f} MB", flush=True)
        seed += 1
    print(f"{sent:,} frames: no defect.")
    return 0


if __name__ == "__main__":
    run_to_end(main)
