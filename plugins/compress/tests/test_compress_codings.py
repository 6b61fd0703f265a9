"""Pieces in, compressed pieces out; and what is missing if a library is."""

import gzip
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_compress import CompressSettings
from maesh_compress.codings import list_codings

brotli = pytest.importorskip("brotli")
zstandard = pytest.importorskip("zstandard")
CODINGS = list_codings(CompressSettings())


class Reader:
    """Reads what a client can read so far."""

    def __init__(self, coding):
        if coding == "gzip":
            self.read = zlib.decompressobj(31).decompress
        elif coding == "br":
            self.read = brotli.Decompressor().process
        else:
            self.read = zstandard.ZstdDecompressor().decompressobj().decompress


@given(st.sampled_from(sorted(CODINGS)), st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=6))
def test_what_was_flushed_can_be_read_at_once_and_the_whole_is_the_body(coding, pieces):
    compressor, reader = CODINGS[coding](), Reader(coding)
    sent = read = b""
    for piece, is_flushed in pieces:
        sent += piece
        read += reader.read(compressor.compress(piece))
        if is_flushed:
            read += reader.read(compressor.flush())
            assert read == sent
    assert read + reader.read(compressor.finish()) == sent


def test_each_response_has_a_compressor_of_its_own():
    first, second = CODINGS["gzip"](), CODINGS["gzip"]()
    data = first.compress(b"first")
    assert gzip.decompress(second.compress(b"second") + second.finish()) == b"second"
    assert gzip.decompress(data + first.finish()) == b"first"


@pytest.mark.parametrize(
    ("missing", "left"),
    [(["brotli"], ["gzip", "zstd"]), (["zstandard"], ["br", "gzip"]), (["brotli", "zstandard"], ["gzip"])],
)
def test_without_a_library_there_are_the_other_codings(monkeypatch, missing, left):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert sorted(list_codings(CompressSettings())) == left


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_the_level_of_the_settings_is_used(coding):
    data = b"".join(b"%d, %d; " % (number, number * number % 1009) for number in range(3000))
    sizes = []
    for level in (1, 9):
        settings = CompressSettings(gzip_level=level, br_level=level, zstd_level=level)
        compressor = list_codings(settings)[coding]()
        sizes.append(len(compressor.compress(data) + compressor.finish()))
    assert sizes[1] < sizes[0]
