"""Which names a certificate holds, and which files of authorities can be used."""

import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from maesh_core.errors import SettingsError
from maesh_core.proxy.http.tls import UpstreamTls, matches_any_name

NAME = "cart.shop.svc"
HELD = [("DNS", NAME), ("DNS", NAME.upper()), ("DNS", "*.shop.svc"), ("IP Address", "10.0.0.1")]
OTHER = [
    ("DNS", "cart.shop.svc.example.com"),
    ("DNS", "shop.svc"),
    ("DNS", "*.svc"),
    ("DNS", "*.cart.shop.svc"),
    ("DNS", "c*.shop.svc"),
    ("DNS", "*"),
    ("DNS", "cart.shop.svc\x00.example.com"),
    ("DNS", "10.0.0.1"),
    ("IP Address", "10.0.0.2"),
    ("IP Address", "<invalid>"),
    ("URI", NAME),
    ("email", NAME),
]


@pytest.mark.parametrize("name", HELD, ids=str)
def test_the_address_or_the_name_will_do(name):
    assert matches_any_name({"subjectAltName": (("DNS", "other.svc"), name)}, address="10.0.0.1", name=NAME)


@pytest.mark.parametrize("name", OTHER, ids=str)
def test_a_certificate_for_other_names_does_not_match(name):
    assert not matches_any_name({"subjectAltName": (name,)}, address="10.0.0.1", name=NAME)
    assert not matches_any_name({"subjectAltName": (name,)}, address="10.0.0.1", name="")


def test_the_common_name_does_not_count():
    assert not matches_any_name({"subject": ((("commonName", NAME),),)}, address="10.0.0.1", name=NAME)
    assert not matches_any_name({}, address="10.0.0.1", name=NAME)


@pytest.mark.parametrize("spelling", ["FD00:0:0:0:0:0:0:1", "fd00::1"])
def test_addresses_are_compared_as_numbers(spelling):
    assert matches_any_name({"subjectAltName": (("IP Address", spelling),)}, address="fd00::1", name="")


def test_verifying_a_connection_without_a_certificate_fails():
    assert not UpstreamTls(root_ca="", is_verifying=True).accepts(None, address="10.0.0.1", name=NAME)
    assert UpstreamTls(root_ca="", is_verifying=False).accepts(None, address="10.0.0.1", name=NAME)


def test_contexts_verify_unless_told_not_to():
    assert UpstreamTls(root_ca="", is_verifying=True).get_context(offers_http2=True).verify_mode is ssl.CERT_REQUIRED
    assert UpstreamTls(root_ca="", is_verifying=False).get_context(offers_http2=True).verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("is_verifying", [True, False])
def test_servers_outside_of_the_mesh_are_always_verified_and_only_by_name(is_verifying):
    tls = UpstreamTls(root_ca="", is_verifying=is_verifying)
    assert tls.get_context(offers_http2=False, is_outside=True).verify_mode is ssl.CERT_REQUIRED
    assert not tls.accepts(None, address="10.0.0.1", name=NAME, is_outside=True)
    for kind, value, is_accepted in (("DNS", NAME, True), ("IP Address", "10.0.0.1", False)):
        session: Any = SimpleNamespace(getpeercert=lambda kind=kind, value=value: {"subjectAltName": ((kind, value),)})
        assert tls.accepts(session, address="10.0.0.1", name=NAME, is_outside=True) is is_accepted


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"", "it contains no certificates"), (b"x", "it contains no certif")],
)
def test_a_file_that_cannot_be_used_is_reported_at_once(tmp_path, content, reason):
    path = tmp_path / "root.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"root.pem \\(--root-ca\\): {reason}"):
        UpstreamTls(root_ca=str(path), is_verifying=True)
