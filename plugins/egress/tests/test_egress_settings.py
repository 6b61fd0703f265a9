"""Settings that cannot be used are refused at the start."""

import pytest
from maesh_egress import EgressSettings
from maesh_egress.resolver_address import ResolverAddress, parse_resolver


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"allow": ("*.",)}, "allow"),
        ({"networks": ("10.0.0.1/8",)}, "networks"),
        ({"networks": ("all",)}, "networks"),
        ({"resolvers": ("dns.example.com",)}, "resolvers"),
        ({"shortest_ttl": 10.0, "longest_ttl": 5.0}, "shortest-ttl"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        EgressSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.10", ("10.0.0.10", 53)),
        ("10.0.0.10:5353", ("10.0.0.10", 5353)),
        ("2001:db8::a", ("2001:db8::a", 53)),
        ("[2001:db8::0a]", ("2001:db8::a", 53)),
        ("[2001:db8::a]:54", ("2001:db8::a", 54)),
    ],
)
def test_a_resolver_is_an_address_with_a_port_or_without(text: str, expected: tuple[str, int]) -> None:
    assert parse_resolver(text) == ResolverAddress(*expected)


@pytest.mark.parametrize(
    "text", ["", "a", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:x", "[::1]x", "fe80::1%lo"]
)
def test_other_texts_are_no_resolver(text: str) -> None:
    with pytest.raises(ValueError, match="resolvers"):
        parse_resolver(text)
