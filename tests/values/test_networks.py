"""Sets of addresses: how they are written, and who is in them."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.values.networks import Networks, parse_networks


@pytest.mark.parametrize(
    ("raw", "members"),
    [
        ([], ()),
        (["none"], ()),
        ([" None "], ()),
        (["", " "], ()),
        (["all"], ("all",)),
        (["ALL"], ("all",)),
        (["10.0.0.7"], ("10.0.0.7/32",)),
        (["10.0.0.0/8", "fd00::/8", "10.0.0.0/8"], ("10.0.0.0/8", "fd00::/8")),
        (["FD00:0::1"], ("fd00::1/128",)),
        (["::ffff:10.0.0.7"], ("10.0.0.7/32",)),
        (["::ffff:10.1.0.0/112"], ("10.1.0.0/16",)),
    ],
)
def test_a_set_is_spelled_canonically(raw, members):
    assert parse_networks(raw) == members
    assert parse_networks(members) == members


@pytest.mark.parametrize(
    "raw",
    [
        ["all", "10.0.0.1"],
        ["none", "10.0.0.1"],
        ["any"],
        ["10.0.0.7/8"],
        ["10.0.0.0/33"],
        ["10.0.0"],
        ["ingress.test.svc"],
        ["010.0.0.1"],
        ["10.0.0.1-10.0.0.9"],
    ],
)
def test_what_names_no_network_or_might_name_two_is_refused(raw):
    with pytest.raises(ValueError, match="all, none, or addresses and networks"):
        parse_networks(raw)


@pytest.mark.parametrize(
    ("members", "inside", "outside"),
    [
        (["10.0.0.0/8"], ["10.9.8.7", "::ffff:10.9.8.7", "::FFFF:a09:807"], ["11.0.0.1", "::10.9.8.7", "", "unix:"]),
        (["::ffff:10.0.0.0/104"], ["10.9.8.7", "::ffff:10.9.8.7"], ["11.0.0.1", "fd00::1"]),
        (["fe80::/10", "127.0.0.1"], ["fe80::1", "fe80::1%eth0", "127.0.0.1"], ["127.0.0.2", "fd00::1"]),
        (["::/0"], ["::1", "fd00::1"], ["10.0.0.1", "::ffff:10.0.0.1"]),
        (["none"], [], ["10.0.0.1", "::1", ""]),
        (["all"], ["10.0.0.1", "::1", ""], []),
    ],
)
def test_an_address_is_in_a_set_however_it_is_spelled(members, inside, outside):
    networks = Networks(parse_networks(members))
    for _ in range(2):
        assert [address for address in (*inside, *outside) if networks.covers(address)] == inside


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 128))
def test_a_set_covers_what_its_networks_hold(address, base, bits):
    network = ip_network((base, min(bits, base.max_prefixlen)), strict=False)
    covered = Networks(parse_networks([str(network)])).covers(str(address))
    mapped = address.ipv4_mapped if address.version == 6 else None
    if mapped is None and (network.version == 4 or network.network_address.ipv4_mapped is None):
        assert covered == (address in network)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_an_ipv4_address_counts_as_itself_where_it_is_written_as_ipv6(address, bits):
    networks = Networks(parse_networks([str(ip_network((ip_address("10.0.0.0"), min(bits, 7)), strict=False))]))
    assert networks.covers(str(address)) is networks.covers(f"::ffff:{address}")


def test_it_shows_what_is_in_it():
    assert [repr(Networks(parse_networks(raw))) for raw in (["all"], [], ["10.0.0.1"])] == [
        "<Networks all>",
        "<Networks none>",
        "<Networks 10.0.0.1/32>",
    ]
