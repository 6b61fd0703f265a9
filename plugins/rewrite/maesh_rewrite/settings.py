"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

import msgspec

from maesh_core.plugin import PathChange


class Rewrite(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rewrite of one service or rule. Without a host or a path, that of the request is sent."""

    host: str = ""
    path: PathChange | None = None
