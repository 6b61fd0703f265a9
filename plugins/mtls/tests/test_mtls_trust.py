"""The names of sets of certificates."""

import pytest
from maesh_mtls.trust import has_all, hash_trust, join_bundles, split_bundle

from .certificates import encode, make_signer

ONE, OTHER = (encode(make_signer().certificate) for _ in range(2))


def test_the_name_depends_on_the_set_only():
    assert hash_trust(ONE + OTHER) == hash_trust(OTHER + "some text\n" + ONE + ONE)
    assert hash_trust(ONE) != hash_trust(ONE + OTHER)
    assert len(hash_trust(ONE)) == 16


def test_bundles_are_joined_with_each_certificate_once():
    joined = join_bundles([ONE + OTHER, OTHER])
    assert sorted(split_bundle(joined)) == sorted(split_bundle(ONE + OTHER))
    assert joined.count("BEGIN CERTIFICATE") == 2
    assert has_all(joined, ONE)
    assert not has_all(ONE, joined)
    assert join_bundles([ONE]) == ONE


def test_a_damaged_certificate_is_an_error():
    with pytest.raises(ValueError, match="not in PEM"):
        split_bundle(ONE.replace("MII", "M!I"))
