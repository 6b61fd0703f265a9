"""Who counts as one client of a limit: compiles the sources of a limit into a function of a request.

Takes sources that the controller has checked; raises ValueError for one that this proxy does not know, so that a route
with an unknown source is refused instead of limited in another way.
"""

from collections.abc import Callable, Sequence

from maesh_core.plugin import Exchange

Reader = Callable[[Exchange], str | bytes | None]
"""Returns what identifies the client of a request; None if the limit does not apply to the request."""


def build_reader(sources: Sequence[str]) -> Reader | None:
    """Build the function that identifies a client; None for the address of its connection alone.

    A client of several sources is identified by all their values together.
    """
    if tuple(sources) == ("ip",):
        return None
    readers = [_build_one(source) for source in sources]
    return readers[0] if len(readers) == 1 else _combine(readers)


def _build_one(source: str) -> Reader:
    kind, _, argument = source.partition(":")
    if kind == "ip":
        return lambda exchange: exchange.client_address
    if kind == "host":
        return lambda exchange: exchange.host
    if kind == "header":
        name = argument.encode()
        return lambda exchange: exchange.client_headers.get(name) or b""
    raise ValueError(f"the source {source!r} of a rate limit is unknown")


def _combine(readers: Sequence[Reader]) -> Reader:
    def read(exchange: Exchange) -> bytes | None:
        values: list[bytes] = []
        for reader in readers:
            value = reader(exchange)
            if value is None:
                return None
            values.append(value.encode() if isinstance(value, str) else value)
        return b"".join(b"%d:%b" % (len(value), value) for value in values)  # no two combinations look the same

    return read
