"""The annotation in, a service's breaker or an error out."""

import msgspec
import pytest
from maesh_circuitbreaker import CircuitBreakerSettings
from maesh_circuitbreaker.controller import ControllerHalf
from maesh_circuitbreaker.settings import ServiceBreaker

from maesh_core.plugin import ConfigurationError, ObjectKey, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
NAME = "circuit-breaker-expression"


def build(annotations, **settings):
    """Build what the proxy would get."""
    (builder,) = ControllerHalf(CircuitBreakerSettings(**settings)).maesh_middleware_builders()
    built = builder.build_settings(annotations, SERVICE)
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), ServiceBreaker)


def test_a_service_without_the_annotation_has_no_breaker():
    assert build({}) is None


def test_the_expression_and_the_periods_go_along():
    text = "NetworkErrorRatio() > 0.5"
    found = build({NAME: text})
    assert (found.expression, found.check_period) == (text, 0.1)
    assert (found.fallback_duration, found.recovery_duration) == (10, 10)
    found = build({NAME: text}, check_period=1.0, fallback_duration=2.0, recovery_duration=3.0)
    assert (found.check_period, found.fallback_duration, found.recovery_duration) == (1, 2, 3)


def test_a_bad_expression_is_an_error_that_names_annotation_value_column_and_rule():
    with pytest.raises(ConfigurationError) as caught:
        build({NAME: "NetworkErrorRatio() > 1"})
    assert str(caught.value) == (
        "annotation circuit-breaker-expression: 'NetworkErrorRatio() > 1' is invalid in column 23: "
        "expected a number such as 0.5, found '1'"
    )
