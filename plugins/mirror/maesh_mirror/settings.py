"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """A side service that gets copies of a share of the requests, from above 0 to 1.

    `name` is for messages. `keys` has the key of the side service for each service port.
    """

    name: str
    share: Annotated[float, Meta(gt=0, le=1)]
    keys: dict[str, str]


class Mirrors(msgspec.Struct, frozen=True, kw_only=True):
    """The mirrors of one service or rule, and the limit of the bodies that are copied, in bytes."""

    mirrors: tuple[Mirror, ...]
    body_limit: Annotated[int, Meta(ge=0)]
