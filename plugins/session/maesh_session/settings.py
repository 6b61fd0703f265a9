"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta

KEY_BYTES = 32
_Seconds = Annotated[float, Meta(ge=0)]


class ServiceSession(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The sessions of a service or a rule; 0 seconds mean no limit.

    `cookie` and `header` are the names of those that have the values, `path` is the Path of the cookie. `key` signs the
    values, in hexadecimal. `is_permanent` means that the client keeps the cookie when its own session ends.
    """

    cookie: str = ""
    header: str = ""
    key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    path: str = "/"
    lifetime_s: _Seconds = 0.0
    idle_s: _Seconds = 0.0
    is_permanent: bool = False
