"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from maesh_core.plugin import PathChange


class Redirect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The redirect of one service or rule. Empty parts, and port 0, are those of the request."""

    status: Literal[301, 302, 303, 307, 308] = 302
    scheme: Literal["", "http", "https"] = ""
    host: str = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    path: PathChange | None = None
    is_of_service: bool = False
    """Whether it concerns all requests of a service: those that are already at their new address pass."""
