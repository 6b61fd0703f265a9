"""Random frames never raise, never stay, and never make the mesh send a wrong frame; see fuzzing.py."""

import random

import pytest

from maesh_core.settings import CarryingSettings

from .fuzzing import fuzz

LIMITS = ({}, {"http2_reset_limit": 3, "http2_control_limit": 100, "http2_stream_limit": 2})


@pytest.mark.parametrize("scheme", ["h2c", "http"])
@pytest.mark.parametrize("limits", LIMITS, ids=["usual limits", "low limits"])
@pytest.mark.parametrize("seed", range(8))
async def test_random_frames_leave_nothing_behind(open_world, caplog, seed, limits, scheme):
    async with open_world(scheme=scheme, servers=1 + seed % 2, settings=CarryingSettings(node="n", **limits)) as world:
        sent = await fuzz(world, random.Random(seed), 200)
    assert sent >= 200
    assert caplog.records == []
