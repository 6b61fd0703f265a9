"""What an owner's `extra` says about its pod."""

import pytest

from maesh_core.model.token_identity import NODE_NAME, POD_NAME, POD_UID, TokenIdentity


def test_the_pod_and_its_node_are_read_from_extra():
    extra = {POD_NAME: ("proxy",), POD_UID: ("1-2",), NODE_NAME: ("a",)}
    owner = TokenIdentity(username="jo", extra=extra)
    assert (owner.pod_name, owner.pod_uid, owner.node_name) == ("proxy", "1-2", "a")


@pytest.mark.parametrize("values", [(), ("one", "two")])
def test_several_values_or_none_name_no_pod(values):
    owner = TokenIdentity(username="jo", extra={POD_NAME: values})
    assert (owner.pod_name, owner.pod_uid, owner.node_name) == ("", "", "")
