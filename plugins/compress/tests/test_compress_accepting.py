"""Header fields in, the coding or the answer out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_compress.accepting import MediaTypes, choose_coding, has_option, weaken_tag

ALL = ("br", "gzip", "zstd")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"gzip", "gzip"),
        (b"gzip, deflate, br", "br"),
        (b"GZIP;Q=1.0, br;q=0.5", "gzip"),
        (b"zstd;q=0.9,br;q=0.8 , gzip; q=0.7", "zstd"),
        (b"*", "br"),
        (b"*;q=0.5, gzip;q=0.8", "gzip"),
        (b"br;q=0, *", "gzip"),
        (b"x-gzip", "gzip"),
        (b"identity, gzip;q=0.5", ""),
        (b"identity;q=0.5, gzip;q=0.5", "gzip"),
        (b"identity;q=0, gzip;q=0.1", "gzip"),
        (b"gzip;q=0", ""),
        (b"*;q=0", ""),
        (b"deflate", ""),
        (b"", ""),
        (b",, gzip ,", "gzip"),
        (b"gzip;q=2", ""),
        (b"gzip;q=x", ""),
        (b"gzip br", ""),
        (b"gzip;level=1", ""),
        (b"gzip" + b" " * 300, ""),
    ],
)
def test_the_coding_with_the_highest_weight_is_chosen(accepted, coding):
    assert choose_coding(accepted, ALL) == coding


def test_the_service_decides_among_equals():
    assert choose_coding(b"br, gzip, zstd", ("zstd", "br")) == "zstd"


@given(st.binary(max_size=60))
def test_no_field_raises(accepted):
    assert choose_coding(accepted, ALL) in ("", *ALL)


@pytest.mark.parametrize(
    ("content_type", "is_included"),
    [
        (b"text/html", True),
        (b"Text/HTML; charset=utf-8", True),
        (b"text/x", True),
        (b"application/json", True),
        (b"application/problem+json", True),
        (b"application/problem+xml", False),
        (b"image/svg+json", False),
        (b"image/png", False),
        (b"texthtml", False),
        (b"", False),
        (b"text/" + b"x" * 300, False),
    ],
)
def test_media_types_are_compared_without_parameters_and_case(content_type, is_included):
    types = MediaTypes(("text/*", "application/json", "application/*+json"))
    assert types.includes(content_type) is is_included


def test_options_of_lists_are_found():
    assert has_option([b"max-age=3", b"public, No-Transform"], b"no-transform")
    assert not has_option([b"no-transformers"], b"no-transform")


def test_only_strong_tags_change():
    assert weaken_tag(b'"a"') == b'W/"a"'
    assert weaken_tag(b'W/"a"') == b'W/"a"'
    assert weaken_tag(b"a") == b"a"
