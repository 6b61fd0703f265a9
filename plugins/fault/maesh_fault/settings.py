"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta

LONGEST_DELAY_S = 60
"""The proxy delays a request no longer."""
_Share = Annotated[float, Meta(ge=0, le=1)]


class Faults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The faults of one service, with the share of the requests that each concerns."""

    delay_s: Annotated[float, Meta(ge=0, le=LONGEST_DELAY_S)] = 0.0
    delay_share: _Share = 1.0
    status: Annotated[int, Meta(ge=0, le=599)] = 0
    """The status of failed requests; 0: none fails by a status."""
    grpc_status: Annotated[int, Meta(ge=0, le=16)] = 0
    """The status of failed gRPC calls, which then are the only requests that fail; 0: none."""
    abort_share: _Share = 1.0
