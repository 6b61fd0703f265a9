"""Names of nodes."""

import pytest

from maesh_core.model.transport import is_node_name


@pytest.mark.parametrize("name", ["a", "n1", "ip-10-0-0-1.eu-west-1.compute.internal", "a" * 253])
def test_a_subdomain_is_the_name_of_a_node(name):
    assert is_node_name(name)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a b", "a\n", "a/b", "ä", "a" * 254])
def test_text_that_is_no_subdomain_is_no_name_of_a_node(name):
    assert not is_node_name(name)
