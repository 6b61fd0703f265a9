"""Rate limits for Maesh: a service's annotations limit how many requests a client may send.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from maesh_core.plugin import Plugin, PositiveDuration
from maesh_ratelimit.redis_settings import PREFIX_PATTERN, parse_redis_url

__all__ = ["PLUGIN", "RateLimitSettings"]


class RateLimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set ratelimit.KEY=VALUE`."""

    accounts: bool = False
    """Whether controllers send the service accounts of all pods to proxies, which the source `account` needs."""

    headers: bool = False
    """Whether responses of limited services have the headers RateLimit and RateLimit-Policy, without an annotation."""

    store: Literal["node", "redis"] = "node"
    """The store of limits without the annotation `ratelimit-store`: `node` or `redis`."""

    redis_url: str = ""
    """Where proxies find Redis or Valkey, such as `redis://redis.example:6379/0`, or `rediss://` for TLS."""

    redis_password_file: str = ""
    """File with the password, which proxies read at each connection; a URL must not have it."""

    redis_ca_file: str = ""
    """File with the authorities of the server's certificate, for `rediss`; default: those of the system."""

    redis_certificate_file: str = ""
    """File with the certificate that proxies show, for `rediss`."""

    redis_key_file: str = ""
    """File with the key of that certificate."""

    redis_timeout: PositiveDuration = 0.1
    """Longest time, in seconds, for an answer; then each node limits by its own share."""

    redis_prefix: Annotated[str, Meta(pattern=PREFIX_PATTERN)] = "maesh:ratelimit:"
    """Begin of all keys: meshes that share a server need different ones."""

    nodes: Annotated[int, Meta(ge=1, le=100_000)] = 1
    """Number of nodes that share the limits while Redis has not told one yet."""

    def __post_init__(self) -> None:
        """Check where Redis is."""
        if self.redis_url:
            try:
                parse_redis_url(self.redis_url)
            except ValueError as error:  # the URL may have a password
                raise ValueError(f"redis-url {error}") from None
        if bool(self.redis_certificate_file) != bool(self.redis_key_file):
            raise ValueError("redis-certificate-file and redis-key-file need each other")


PLUGIN = Plugin(
    hook_api_version=1,
    settings=RateLimitSettings,
    controller="maesh_ratelimit.controller:ControllerHalf",
    proxy="maesh_ratelimit.hooks:ProxyHalf",
)
