"""Circuit breakers for Maesh: an annotation defines when requests to a service stop. Declares the plugin."""

import msgspec

from maesh_core.plugin import Plugin, PositiveDuration

__all__ = ["PLUGIN", "CircuitBreakerSettings"]


class CircuitBreakerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set circuitbreaker.KEY=VALUE`, for all breakers. Names and defaults are those of Traefik."""

    check_period: PositiveDuration = 0.1
    """Shortest time between two evaluations of the expression."""

    fallback_duration: PositiveDuration = 10.0
    """How long a breaker stays open."""

    recovery_duration: PositiveDuration = 10.0
    """How long it recovers after that. Meanwhile a share of the requests is forwarded, which grows to one half."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=CircuitBreakerSettings,
    controller="maesh_circuitbreaker.controller:ControllerHalf",
    proxy="maesh_circuitbreaker.hooks:ProxyHalf",
)
