"""The ranges of traffic types: shared ones, exclusive ones, and those of ports that want an entrypoint of their own."""

from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.ranges import NamedRange, list_exclusive_ranges, list_ranges
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.plugin_system.protocols import PortRange, TrafficType

SHARED = PortRange(first=5000, limit=10, is_exclusive=False)
EXCLUSIVE = PortRange(first=10000, limit=10, is_exclusive=True)
OWN = PortRange(first=20000, limit=10, is_exclusive=True)


def test_a_type_with_shared_entrypoints_may_have_a_range_for_own_ones():
    types: list[TrafficType] = [HttpTrafficType(SHARED, own_range=OWN), TcpTrafficType(EXCLUSIVE)]
    assert list_ranges(types) == [
        NamedRange("http", "TCP", SHARED),
        NamedRange("http/own", "TCP", OWN),
        NamedRange("tcp", "TCP", EXCLUSIVE),
    ]
    assert [each.name for each in list_exclusive_ranges(types)] == ["http/own", "tcp"]


def test_without_it_there_is_only_the_shared_range():
    assert list_ranges([HttpTrafficType(SHARED)]) == [NamedRange("http", "TCP", SHARED)]
    assert list_exclusive_ranges([HttpTrafficType(SHARED)]) == []
