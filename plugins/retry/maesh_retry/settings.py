"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta

_Status = Annotated[int, Meta(ge=400, le=599)]
_Amount = Annotated[float, Meta(ge=0)]


class ServiceRetry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The retries of one service or rule; `budget` is a share of the requests."""

    attempts: Annotated[int, Meta(ge=1, le=100)]
    errors: tuple[str, ...]
    statuses: tuple[tuple[_Status, _Status], ...]
    grpc_statuses: tuple[Annotated[int, Meta(ge=0, le=16)], ...] = ()
    """Left out by controllers that do not know it."""
    timeout_s: _Amount
    body_limit: Annotated[int, Meta(ge=0, le=1 << 20)]
    backoff_s: _Amount
    backoff_least_s: _Amount = 0.0
    """The shortest pause before the second attempt, as routes set it, in place of `backoff_s`; 0: none."""
    backoff_limit_s: _Amount
    budget: _Amount
