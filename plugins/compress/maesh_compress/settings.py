"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Coding = Literal["gzip", "br", "zstd"]


class Compression(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The compression of one service.

    `codings` are in the order of preference. `types` are media types in lower case: `type/subtype`, `type/*` or
    `type/*+suffix`.
    """

    codings: Annotated[tuple[Coding, ...], Meta(min_length=1)]
    min_bytes: Annotated[int, Meta(ge=0)]
    types: tuple[str, ...]
