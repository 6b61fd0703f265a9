"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta

_Seconds = Annotated[float, Meta(ge=0)]


class ServiceTimeout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The time-outs of a service or a rule; None where none is set, 0 for requests that may take any time."""

    request_s: _Seconds | None = None
    attempt_s: _Seconds | None = None
