"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from maesh_circuitbreaker import CircuitBreakerSettings


class ServiceBreaker(CircuitBreakerSettings, frozen=True, kw_only=True):
    """The breaker of one service, as it travels from controller to proxy."""

    expression: str
