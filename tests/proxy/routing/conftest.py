"""The routes of a stream protocol, as a proxy has them."""

import pytest

from maesh_testing import FakeNode


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def streams(node):
    return node.build_streams(list)
