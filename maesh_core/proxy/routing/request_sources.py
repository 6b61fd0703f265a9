"""Compiles sources of requests into functions that identify the client of a request.

Takes sources that the controller has checked (model/request_sources.py), and those of plugins; raises ValueError for
one that this proxy does not know, so that its routes are refused instead of limited in another way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from maesh_core.model.matching import is_ambiguous
from maesh_core.model.request_sources import ACCOUNT, ADDRESS, HEADER, HOST, PATH, compile_template
from maesh_core.plugin_system.interfaces import Exchange
from maesh_core.plugin_system.request_sources import RequestSource, SourceReader

AMBIGUOUS: Final = b"?"
"""The value of every path that a server could read in another way. No path contains this byte."""


class RequestSources:
    """The sources of one worker. `find_account` returns the service account at an address; empty if it is unknown."""

    __slots__ = ("_find_account", "plugin_sources")

    def __init__(self, find_account: Callable[[str], str]) -> None:
        self._find_account = find_account
        self.plugin_sources: Mapping[str, RequestSource] = {}
        """Those of plugins by name; set at start."""

    def __repr__(self) -> str:
        return f"<RequestSources of plugins: {', '.join(self.plugin_sources) or 'none'}>"

    def build_reader(self, sources: Sequence[str]) -> SourceReader | None:
        """Build the function that identifies a client; None for the address of its connection alone.

        A client of several sources is identified by all their values together. Raises ValueError.
        """
        if tuple(sources) == (ADDRESS,):
            return None
        readers = [self._build_one(source) for source in sources]
        if not readers:
            raise ValueError("there is no source of requests")
        return readers[0] if len(readers) == 1 else _combine(readers)

    def _build_one(self, source: str) -> SourceReader:
        kind, _, argument = source.partition(":")
        if kind == ADDRESS:
            return _read_address
        if kind == HOST:
            return _read_host
        if kind == ACCOUNT:
            return self._read_account
        if kind == HEADER and argument:
            return _build_header_reader(argument.encode())
        if kind == PATH:
            return _build_path_reader(argument)
        if kind in self.plugin_sources:
            return self.plugin_sources[kind].build_reader(argument)
        raise ValueError(f"this proxy does not know the source {kind!r} of requests")

    def _read_account(self, exchange: Exchange) -> str:
        """Read the account of the client's pod; without one, the client's address, which never equals an account."""
        address = exchange.client_address
        return self._find_account(address) or address


def _read_address(exchange: Exchange) -> str:
    return exchange.client_address


def _read_host(exchange: Exchange) -> bytes:
    return exchange.host


def _build_header_reader(name: bytes) -> SourceReader:
    """Read the first value; requests without the header are one client."""

    def read(exchange: Exchange) -> bytes:
        return exchange.client_headers.get(name) or b""

    return read


def _build_path_reader(template: str) -> SourceReader:
    find = compile_template(template)

    def read(exchange: Exchange) -> bytes | None:
        target = exchange.target
        if is_ambiguous(target):
            return AMBIGUOUS
        path = target.partition(b"?")[0]
        return find(unquote_to_bytes(path) if b"%" in path else path)

    return read


def _combine(readers: Sequence[SourceReader]) -> SourceReader:
    def read(exchange: Exchange) -> bytes | None:
        values: list[bytes] = []
        for reader in readers:
            value = reader(exchange)
            if value is None:
                return None
            encoded = value.encode() if isinstance(value, str) else value
            values.append(b"%d:%b" % (len(encoded), encoded))  # no two combinations look the same
        return b"".join(values)

    return read
