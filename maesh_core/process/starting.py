"""Starts processes so that none is left behind if the start is cancelled, which uvloop alone does not guarantee."""

import asyncio
import contextlib
from asyncio.subprocess import Process
from typing import Any


async def start_process(*program: str, **options: Any) -> Process:
    """Start a process as create_subprocess_exec of asyncio does; a cancelled start kills it. Raises OSError."""
    starting = asyncio.create_task(asyncio.create_subprocess_exec(*program, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            process = await starting
            process.kill()
            await process.wait()
        raise
