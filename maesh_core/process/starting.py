"""Starts processes so that none is left behind if the start is cancelled, which uvloop alone does not guarantee."""

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio.subprocess


async def start_process(*program: str, **options: Any) -> "asyncio.subprocess.Process":
    """Start a process as create_subprocess_exec of asyncio does; a cancelled start kills it. Raises OSError."""
    import asyncio  # plugins import this module before a process starts its event loop, and asyncio takes 20 ms

    starting = asyncio.create_task(asyncio.create_subprocess_exec(*program, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            process = await starting
            process.kill()
            await process.wait()
        raise
