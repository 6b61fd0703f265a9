"""Claims of tokens for Maesh: identifies the clients of a service by a claim of their verified JWT.

Both processes import this module before they load a half, so it only declares the plugin.
"""

import msgspec

from maesh_core.plugin import Duration, Plugin

__all__ = ["PLUGIN", "JwtSettings"]


class JwtSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set jwt.KEY=VALUE` of proxies."""

    keys: str = ""
    """The path of a file with the public keys, as a JSON Web Key Set (RFC 7517), or the set itself; required."""

    issuer: str = ""
    """The required value of the claim `iss`; empty for any."""

    audience: str = ""
    """The required value, or one of the values, of the claim `aud`; empty for any."""

    header: str = "Authorization"
    """The header with the token, which may follow the word Bearer."""

    leeway: Duration = 10.0
    """How far the clocks of issuers may differ."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=JwtSettings,
    controller="maesh_jwt.controller:ControllerHalf",
    proxy="maesh_jwt.proxy:ProxyHalf",
)
