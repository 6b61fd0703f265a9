"""What `maesh check` says about claims that no key can verify."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest
from maesh_jwt import JwtSettings
from maesh_jwt.policy import ClaimPolicyChecker

from maesh_core.plugin import ObjectKey, PolicyView, ServiceNode


def check(annotations: Mapping[str, str], keys: str = "") -> list[tuple[str, str]]:
    node = ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http", annotations=annotations)
    view = cast("PolicyView", SimpleNamespace(nodes={node.key: node}))
    return [(each.code, each.text) for each in ClaimPolicyChecker(JwtSettings(keys=keys)).check(view)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ratelimit-source", "claim:sub"),
        ("ratelimit-limits", "a: 5/1m\nb: 50/s source=ip,claim:sub"),
        ("limit-concurrency-source", "ip, claim:sub"),
        ("api.ratelimit-source", "claim:sub"),
    ],
)
def test_a_claim_needs_keys(name: str, value: str) -> None:
    text = f"annotation {name}: claim:sub needs the keys that verify tokens: jwt.keys is not set"
    assert check({name: value}) == [("MSH821", text)]
    assert check({name: value}, keys="/keys.json") == []


def test_other_texts_name_no_claim() -> None:
    assert check({"example.com/ratelimit-source": "claim:sub", "ratelimit-source": "header:X-claim:sub"}) == []
