"""Manifests as text, and a source under test whose batches are awaited with a limit."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.discovery.manifests.source import ManifestSource
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot

LIMIT_S = 60.0
"""Far above what anything here takes; only a failing test gets there."""


@pytest.fixture(scope="session")
def parse():
    """Parse text or bytes as one file and give its manifest."""
    table = KindTable(CORE_KINDS)

    def parse_text(content, path="f.yaml"):
        return parse_manifest(content if isinstance(content, bytes) else content.encode(), table, path=path)

    return parse_text


@pytest.fixture
def load_one(parse):
    """Parse text that holds one good resource and give it."""

    def load(content, path="f.yaml"):
        manifest = parse(content, path)
        assert [str(error) for error in manifest.errors] == []
        (loaded,) = manifest.resources
        return loaded.resource

    return load


@pytest.fixture
def find_fault(parse):
    """Parse text that holds one bad resource and give the error's text."""

    def find(content, path="f.yaml"):
        manifest = parse(content, path)
        assert manifest.resources == ()
        (error,) = manifest.errors
        return error.text

    return find


class Follower:
    """Applies a source's batches to a snapshot as they come."""

    def __init__(self, batches):
        self._batches = batches
        self.snapshot = Snapshot(CORE_KINDS)
        self.batch = ()

    async def next_batch(self):
        async with asyncio.timeout(LIMIT_S):
            self.batch = await anext(self._batches)
        self.snapshot.apply(self.batch, source="manifests")
        return self.batch

    async def until(self, is_reached):
        """Follow until the snapshot is as wanted; give all events that led there."""
        events = []
        while not is_reached(self.snapshot):
            events.extend(await self.next_batch())
        return events


@pytest.fixture
def follow():
    """Watch paths with the real watcher; the first batch is applied already."""

    @asynccontextmanager
    async def follow_paths(*paths, settle_s=0.02, **options):
        source = ManifestSource([str(path) for path in paths], settle_s=settle_s, **options)
        source.check_paths()
        batches = source.watch_events(CORE_KINDS)
        follower = Follower(batches)
        try:
            await follower.next_batch()
            yield follower
        finally:
            await batches.aclose()

    return follow_paths


@pytest.fixture
def service():
    """Write a Service as YAML."""

    def write_service(name, port=80, namespace="apps"):
        return (
            f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\n"
            f"spec:\n  ports:\n  - port: {port}\n"
        )

    return write_service
