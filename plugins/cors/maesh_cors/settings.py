"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta


class CorsPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The policy of one service or rule. A list with the only entry `*` allows everything."""

    origins: tuple[str, ...] = ()
    """As in the Gateway API: `https://shop.example`, `https://*.shop.example:8443`, `http://*`."""
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    has_credentials: bool = False
    max_age_s: Annotated[int, Meta(ge=0)] = 5
