"""Only public addresses are used unless a setting allows others, and special ones only if it names them."""

import pytest
from maesh_egress.usable_addresses import UsableAddresses


@pytest.mark.parametrize("address", ["8.8.8.8", "203.0.114.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_used(address: str) -> None:
    assert address in UsableAddresses(())


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fec0::1",
        "feff::1",
        "fd00:ec2::254",
        "fc00::1",
        "ff02::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "::ffff:10.0.0.1",
    ],
)
def test_other_addresses_are_not_used_by_default(address: str) -> None:
    assert address not in UsableAddresses(())


def test_a_setting_allows_networks() -> None:
    usable = UsableAddresses(("10.20.0.0/16", "fd01::/16"))
    assert "10.20.0.1" in usable
    assert "fd01::5" in usable
    assert "10.21.0.1" not in usable
    assert "8.8.8.8" in usable


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "fd00:ec2::254"])
def test_special_addresses_are_used_only_if_a_network_within_theirs_is_allowed(address: str) -> None:
    assert address not in UsableAddresses(("0.0.0.0/0", "::/0"))
    assert address in UsableAddresses((address,))


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "::"])
def test_addresses_that_are_no_single_host_are_never_used(address: str) -> None:
    assert address not in UsableAddresses(("0.0.0.0/0", "::/0", address))
