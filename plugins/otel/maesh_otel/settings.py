"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta


class ServiceTracing(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The tracing of one service, as it travels from controller to proxy."""

    sample: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Share of the requests for which the mesh starts a trace; None: the setting of the proxy."""
