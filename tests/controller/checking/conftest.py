"""The policy of manifests."""

import pytest

from maesh_core.controller.checking.policy import EnginePolicy
from tests.controller.checking.engines import build_engine_of


@pytest.fixture
def engine_of(tmp_path):
    """Build the policy of manifests."""

    async def build(text, **options):
        return EnginePolicy((await build_engine_of(tmp_path, text, **options))[0])

    return build
