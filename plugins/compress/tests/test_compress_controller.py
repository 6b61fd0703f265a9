"""Annotations in, settings or errors out."""

import msgspec
import pytest
from maesh_compress.controller import DEFAULT_TYPES, CompressBuilder
from maesh_compress.settings import Compression

from maesh_core.plugin import ConfigurationError, ObjectKey, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http")


def build(**annotations):
    return CompressBuilder().build_settings(
        {key.replace("_", "-"): value for key, value in annotations.items()}, SERVICE
    )


def test_a_service_without_annotations_has_no_compression():
    assert build() is None


def test_other_traffic_is_not_compressed():
    service = ServiceNode(key=ObjectKey("shop", "web"), traffic_type="tcp")
    assert CompressBuilder().build_settings({"compress": "gzip"}, service) is None


def test_codings_keep_their_order_and_the_rest_has_defaults():
    assert build(compress="zstd, GZIP") == Compression(codings=("zstd", "gzip"), min_bytes=1024, types=DEFAULT_TYPES)


def test_all_annotations_are_read():
    found = build(compress="br", compress_min_bytes="0", compress_types="text/*, Application/JSON,text/*,a/*+json")
    assert found == Compression(codings=("br",), min_bytes=0, types=("text/*", "application/json", "a/*+json"))


@pytest.mark.parametrize(
    ("annotations", "part"),
    [
        ({"compress": ""}, "is not gzip, br or zstd"),
        ({"compress": "gzip,"}, "is not gzip, br or zstd"),
        ({"compress": "gzp"}, "did you mean gzip"),
        ({"compress": "gzip, gzip"}, "is there twice"),
        ({"compress": "gzip", "compress_min_bytes": "1k"}, "compress-min-bytes"),
        ({"compress": "gzip", "compress_min_bytes": "-1"}, "compress-min-bytes"),
        ({"compress": "gzip", "compress_types": "json"}, "is not a media type"),
        ({"compress": "gzip", "compress_types": "*/*"}, "is not a media type"),
        ({"compress": "gzip", "compress_types": "text/html;charset=utf-8"}, "is not a media type"),
        ({"compress": "gzip", "compress_types": ",".join(f"a/{at}" for at in range(101))}, "is more than 100"),
        ({"compress_types": "text/*"}, "has no effect without compress"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_it(annotations, part):
    with pytest.raises(ConfigurationError, match=part):
        build(**annotations)


def test_an_explanation_names_the_codings():
    settings = msgspec.to_builtins(build(compress="br, gzip"))
    assert CompressBuilder().explain(settings, None).reasons == (
        "responses of at least 1024 bytes are compressed by br, gzip if the client accepts it",
    )
