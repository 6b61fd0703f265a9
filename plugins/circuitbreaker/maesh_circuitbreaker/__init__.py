"""Circuit breakers for Maesh: a service's annotation says when its servers are spared. Declares the plugin."""

import msgspec

from maesh_core.plugin import Plugin, PositiveDuration

__all__ = ["PLUGIN", "CircuitBreakerSettings"]


class CircuitBreakerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set circuitbreaker.KEY=VALUE` takes; it holds for every breaker, and has Traefik's names and defaults."""

    check_period: PositiveDuration = 0.1
    """How often the expression is looked at, at most."""

    fallback_duration: PositiveDuration = 10.0
    """How long a breaker stays open."""

    recovery_duration: PositiveDuration = 10.0
    """How long it then lets only a share of the requests through, which grows to one half."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=CircuitBreakerSettings,
    controller="maesh_circuitbreaker.controller:ControllerHalf",
    proxy="maesh_circuitbreaker.hooks:ProxyHalf",
)
