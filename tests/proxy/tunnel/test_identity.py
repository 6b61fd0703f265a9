"""Times and names of certificates as `getpeercert` describes them in; seconds, and whose they are, out."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.tunnel.identity import PeerRefusedError, check_identity, read_certificate_time

from .node_certificates import build_identity

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TIMES = st.builds(
    "{} {:2} {:02}:{:02}:{:02} {} GMT".format,
    st.sampled_from(MONTHS),
    st.integers(1, 28),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.integers(1970, 9999),
)


@given(text=TIMES)
def test_a_time_is_read_as_python_reads_it_every_time(text):
    assert read_certificate_time(text) == read_certificate_time(text) == ssl.cert_time_to_seconds(text)


@pytest.mark.parametrize("text", ["", "Nov 30 12:00:00 2026", "Foo 30 12:00:00 2026 GMT"])
def test_a_text_that_is_no_time_is_refused_every_time(text):
    for _ in range(2):
        with pytest.raises(ValueError, match="does not match format"):
            read_certificate_time(text)


@pytest.mark.parametrize(
    ("names", "revoked", "reason"),
    [
        ((), (), "identity"),
        ((("URI", build_identity("b")),), (), "identity"),
        ((("URI", build_identity("a")), ("URI", build_identity("b"))), (), "identity"),
        ((("DNS", build_identity("a")),), (), "identity"),
        ((("URI", build_identity("a")),), ("0A", "0B"), "revoked"),
    ],
)
def test_another_identity_or_a_revoked_certificate_is_refused(names, revoked, reason):
    certificate = {"subjectAltName": names, "serialNumber": "0B"}
    with pytest.raises(PeerRefusedError, match=reason):
        check_identity(certificate, build_identity("a"), revoked)


def test_the_one_identity_that_is_meant_is_accepted():
    certificate = {"subjectAltName": (("URI", build_identity("a")),), "serialNumber": "0B"}
    check_identity(certificate, build_identity("a"), ("0A",))
