"""Responses in, compressed bodies and changed headers out."""

import asyncio
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maesh_compress import CompressSettings
from maesh_compress.codings import list_codings
from maesh_compress.controller import DEFAULT_TYPES
from maesh_compress.proxy import THREAD_BYTES, CompressFactory
from maesh_compress.settings import Compression

from maesh_testing import FakeExchange

brotli = pytest.importorskip("brotli")
zstandard = pytest.importorskip("zstandard")
DECODERS = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
CODINGS = list_codings(CompressSettings())


def build(factory=None, **changes):
    values = {"codings": ("gzip", "br", "zstd"), "min_bytes": 10, "types": DEFAULT_TYPES, **changes}
    return (factory or CompressFactory(CODINGS, 2)).build_middleware(Compression(**values), "shop/web")


def respond(headers=(), *, accepted=b"gzip", content_type=b"text/html", **state):
    client = {b"Accept-Encoding": accepted} if accepted is not None else {}
    state = {"status": 200, "response_length": 100, **state}
    exchange = FakeExchange(headers={**client, **state.pop("client", {})}, **state)
    if content_type is not None:
        exchange.response_headers.set(b"Content-Type", content_type)
    for name, value in headers:
        exchange.response_headers.add(name, value)
    return exchange


def compress(middleware, exchange, pieces):
    transform = middleware.on_response_body(exchange)
    return b"".join([*(transform.feed(piece) for piece in pieces), transform.end(b"")])


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_body_is_compressed_and_its_headers_say_so(coding):
    exchange = respond(
        [(b"ETag", b'"1"'), (b"Accept-Ranges", b"bytes"), (b"Content-Digest", b"x"), (b"Vary", b"Origin")],
        accepted=coding.encode(),
    )
    data = compress(build(), exchange, [b"hello " * 20, b"world"])
    assert DECODERS[coding](data) == b"hello " * 20 + b"world"
    assert dict(exchange.response_headers) == {
        b"Content-Type": b"text/html",
        b"Content-Encoding": coding.encode(),
        b"ETag": b'W/"1"',
        b"Vary": b"Origin, Accept-Encoding",
    }


@settings(max_examples=30)
@given(st.sampled_from(sorted(DECODERS)), st.lists(st.binary(max_size=100), max_size=5), st.booleans())
def test_what_is_compressed_is_the_body(coding, pieces, is_stream):
    exchange = respond(accepted=coding.encode(), response_length=None if is_stream else 100)
    assert DECODERS[coding](compress(build(), exchange, pieces)) == b"".join(pieces)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_each_piece_of_a_stream_can_be_read_at_once(coding):
    decoders = {
        "gzip": lambda data: __import__("zlib").decompressobj(31).decompress(data),
        "br": lambda data: brotli.Decompressor().process(data),
        "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }
    transform = build().on_response_body(respond(accepted=coding.encode(), response_length=None))
    assert decoders[coding](transform.feed(b"first\n")) == b"first\n"
    transform.close()


async def test_a_large_piece_is_compressed_in_a_thread():
    transform = build().on_response_body(respond())
    small, large = transform.feed(b"a" * THREAD_BYTES), transform.feed(b"a" * (THREAD_BYTES + 1))
    assert isinstance(small, bytes)
    data = small + await large + transform.end(b"")
    assert gzip.decompress(data) == b"a" * (2 * THREAD_BYTES + 1)


async def test_a_body_that_ends_early_while_a_thread_compresses_it_does_no_harm():
    middleware = build()
    transform = middleware.on_response_body(respond())
    result = transform.feed(b"a" * 50_000)
    transform.close()
    await asyncio.gather(result, return_exceptions=True)
    assert middleware._places.used == 0


@pytest.mark.parametrize(
    "exchange",
    [
        respond(content_type=b"image/png"),
        respond(content_type=None),
        respond([(b"Content-Encoding", b"br")]),
        respond([(b"Cache-Control", b"public, no-transform")]),
        respond([(b"Content-Range", b"bytes 0-1/5")]),
        respond([(b"Signature-Input", b"x")]),
        respond(status=206),
        respond(response_length=9),
        respond(is_grpc=True, content_type=b"text/html"),
    ],
    ids=lambda exchange: repr(exchange.response_headers),
)
def test_what_must_not_be_compressed_is_not_changed(exchange):
    before = exchange.response_headers.items()
    middleware = build()
    middleware.on_response(exchange)
    assert middleware.on_response_body(exchange) is None
    assert exchange.response_headers.items() == before


@pytest.mark.parametrize(
    "exchange",
    [
        respond(accepted=None),
        respond(accepted=b"deflate"),
        respond(accepted=b"identity, gzip;q=0.1"),
        respond(protocol="HTTP/1.0"),
        respond(client={b"Cache-Control": b"no-transform"}),
    ],
    ids=lambda exchange: repr(exchange.client_headers),
)
def test_a_response_that_another_client_could_get_compressed_varies(exchange):
    assert build().on_response_body(exchange) is None
    assert exchange.response_headers.get(b"Vary") == b"Accept-Encoding"
    assert exchange.response_headers.get(b"Content-Encoding") is None


@pytest.mark.parametrize("vary", [b"*", b"Accept-Encoding", b"origin, accept-encoding"])
def test_vary_does_not_name_accept_encoding_twice(vary):
    exchange = respond([(b"Vary", vary)])
    build().on_response_body(exchange)
    assert exchange.response_headers.get_all(b"Vary") == [vary]


def test_responses_without_a_body_vary_as_those_with_one():
    for exchange, wanted in (
        (respond(method=b"HEAD"), b"Accept-Encoding"),
        (respond(method=b"HEAD", content_type=b"image/png"), None),
        (respond(status=304, content_type=None), b"Accept-Encoding"),
        (respond(), None),
    ):
        build().on_response(exchange)
        assert exchange.response_headers.get(b"Vary") == wanted


def test_an_identity_coding_counts_as_none():
    exchange = respond([(b"Content-Encoding", b"identity")])
    assert build().on_response_body(exchange) is not None
    assert exchange.response_headers.get_all(b"Content-Encoding") == [b"gzip"]


def test_no_more_responses_than_the_limit_are_compressed_at_once_and_the_others_are_counted():
    factory = CompressFactory(CODINGS, 2)
    middleware = build(factory)
    first, second = (middleware.on_response_body(respond()) for _ in range(2))
    third = respond()
    assert middleware.on_response_body(third) is None
    assert third.response_headers.get(b"Content-Encoding") is None
    first.close()
    assert middleware.on_response_body(respond()) is not None
    second.feed(b"a" * 1000)
    second.end(b"")
    assert middleware.on_response_body(respond()) is not None
    counts = {(family.name, *labels): value for family in factory.collect_metrics() for labels, value in family.samples}
    after = counts.pop(("maesh_compress_bytes", "test/app:80", "gzip", "after"))
    assert after in range(1, 100)
    assert counts == {
        ("maesh_compress_responses", "test/app:80", "gzip"): 1,
        ("maesh_compress_bytes", "test/app:80", "gzip", "before"): 1000,
        ("maesh_compress_passed_over", "test/app:80"): 1,
    }


def test_a_coding_without_library_is_not_used():
    factory = CompressFactory({"gzip": CODINGS["gzip"]}, 2)
    assert build(factory, codings=("br",)).on_response_body(respond(accepted=b"br")) is None
    exchange = respond(accepted=b"br, gzip")
    assert build(factory, codings=("br", "gzip")).on_response_body(exchange) is not None
    assert exchange.response_headers.get(b"Content-Encoding") == b"gzip"
