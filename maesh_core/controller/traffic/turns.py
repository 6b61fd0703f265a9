"""Divides long work among turns of the event loop, so that the controller answers pulls meanwhile.

Takes a generator that yields wherever the work may pause; returns its result.
"""

import asyncio
from collections.abc import Generator
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def work_in_turns(steps: Generator[None, None, ResultT]) -> ResultT:
    """Do the work, with a pause at each `yield`."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: ResultT = end.value
            return result
        await asyncio.sleep(0)


def work_at_once(steps: Generator[None, None, ResultT]) -> ResultT:
    """Do the work without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: ResultT = end.value
            return result
