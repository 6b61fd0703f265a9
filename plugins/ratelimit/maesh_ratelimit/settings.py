"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta


class ServiceLimit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The limit of one service, as it travels from controller to proxy; `source` is ip, host or header:NAME."""

    average: Annotated[int, Meta(ge=1, le=10**9)]
    burst: Annotated[int, Meta(ge=1, le=10**9)]
    period_s: Annotated[float, Meta(gt=0)]
    source: str
