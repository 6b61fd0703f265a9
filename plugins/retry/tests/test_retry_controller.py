"""Annotations in, a service's retries or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_retry import RetrySettings
from maesh_retry.controller import ControllerHalf, RetryBuilder
from maesh_retry.settings import ServiceRetry

from maesh_core.plugin import ConfigurationError, FilterRequest, ObjectKey, PortNode, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")


def build(annotations, **settings):
    """Build what the proxy would get."""
    (builder,) = ControllerHalf(RetrySettings(**settings)).maesh_middleware_builders()
    built = builder.build_settings({f"retry-{name}": text for name, text in annotations.items()}, SERVICE)
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), ServiceRetry)


def test_a_service_without_the_annotations_has_no_retries():
    assert build({}) is None


def test_attempts_alone_retry_connections_that_could_not_be_made():
    found = build({"attempts": "3"})
    assert (found.attempts, found.errors, found.statuses) == (3, ("connect-failure",), ())
    assert (found.timeout_s, found.backoff_s, found.budget, found.body_limit) == (0, 0, 0, 65536)


def test_each_annotation_works_without_the_others():
    assert build({"on": "reset"}).attempts == build({"timeout": "500ms"}).attempts == 2
    assert build({"timeout": "500ms"}).timeout_s == 0.5


def test_it_explains_how_often_a_request_is_sent_and_refuses_none():
    builder = RetryBuilder(RetrySettings())
    settings = msgspec.to_builtins(builder.build_settings({"retry-attempts": "3"}, SERVICE))
    verdict = builder.explain(settings, None)
    assert (verdict.is_admitted, verdict.reasons) == (True, ("up to 3 attempts; it refuses no request",))


def test_conditions_are_errors_statuses_and_ranges():
    found = build({"on": "reset, timeout,5xx , 429,502-504,connect-failure"})
    assert found.errors == ("connect-failure", "reset", "timeout")
    assert found.statuses == ((429, 429), (500, 599), (502, 504))


def test_grpc_statuses_are_named_as_in_envoy():
    found = build({"on": "unavailable, cancelled,resource-exhausted,internal,deadline-exceeded, 503"})
    assert found.grpc_statuses == (1, 4, 8, 13, 14)
    assert (found.errors, found.statuses) == ((), ((503, 503),))
    assert build({"on": "reset"}).grpc_statuses == ()


def test_settings_of_a_controller_that_knows_no_grpc_statuses_are_read():
    built = msgspec.to_builtins(RetryBuilder(RetrySettings()).build_settings({"retry-attempts": "2"}, SERVICE))
    del built["grpcStatuses"]
    assert msgspec.convert(built, ServiceRetry).grpc_statuses == ()


def test_the_plugins_settings_go_along():
    found = build({"attempts": "2"}, body_limit=5, backoff=0.1, backoff_limit=2.0, budget=20.0)
    assert (found.body_limit, found.backoff_s, found.backoff_limit_s, found.budget) == (5, 0.1, 2.0, 0.2)


def test_a_service_has_its_own_pauses_and_budget_in_place_of_the_settings():
    settings = {"backoff": 0.1, "backoff_limit": 1.0, "budget": 20.0}
    found = build({"backoff": "250ms", "budget": "5"}, **settings)
    assert (found.attempts, found.backoff_s, found.backoff_limit_s, found.budget) == (2, 0.25, 1.0, 0.05)
    assert build({"backoff": "3s"}, **settings).backoff_limit_s == 3
    found = build({"backoff": "0s", "budget": "0"}, **settings)
    assert (found.backoff_s, found.backoff_limit_s, found.budget) == (0, 1, 0)


@pytest.mark.parametrize("wrong", [{"backoff": "soon"}, {"backoff": "-1s"}, {"budget": "-1"}, {"budget": "101"}])
def test_pauses_and_budgets_that_are_none_are_errors(wrong):
    ((name, text),) = wrong.items()
    with pytest.raises(ConfigurationError, match=f"retry-{name}.*{text}"):
        build(wrong)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("UNAVAILABLE", "unavailable"),
        ("DEADLINE_EXCEEDED", "deadline-exceeded"),
        ("reset, canceled", "cancelled"),
        ("conect-failure", "connect-failure"),
        ("5XX", "5xx"),
        ("6xx", None),
        ("unknown", None),
    ],
)
def test_a_misspelt_condition_gets_a_suggestion(text, meant):
    with pytest.raises(ConfigurationError) as caught:
        build({"on": text})
    assert str(caught.value).partition("; ")[2] == (f"did you mean {meant}?" if meant else "")


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("attempts", "many", "a whole number from 1 to 100"),
        ("attempts", "0", "a whole number from 1 to 100"),
        ("attempts", "-1", "a whole number from 1 to 100"),
        ("attempts", "1.5", "a whole number from 1 to 100"),
        ("attempts", "99999999999999999999", "a whole number from 1 to 100"),
        ("attempts", "", "a whole number from 1 to 100"),
        ("timeout", "soon", "a duration"),
        ("timeout", "0", "a duration above 0"),
        ("timeout", "-1s", "a duration"),
        ("on", "", "connect-failure, reset"),
        ("on", "refused", "connect-failure, reset"),
        ("on", "reset,", "connect-failure, reset"),
        ("on", "600", "connect-failure, reset"),
        ("on", "200", "connect-failure, reset"),
        ("on", "504-502", "connect-failure, reset"),
        ("on", "6xx", "connect-failure, reset"),
        ("on", "unimplemented", "internal, resource-exhausted, unavailable"),
    ],
)
def test_a_bad_value_is_an_error_that_names_annotation_value_and_rule(name, text, rule):
    with pytest.raises(ConfigurationError) as caught:
        build({name: text})
    assert f"annotation retry-{name}: {text.rpartition(',')[2]!r}" in str(caught.value)
    assert rule in str(caught.value)


@given(st.dictionaries(st.sampled_from(["attempts", "on", "timeout"]), st.text(max_size=20), min_size=1))
def test_whatever_is_written_there_is_what_the_proxy_takes_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        assert build(annotations).attempts >= 1


# --- rules


def build_rule(value, annotations=None, **settings):
    builder = RetryBuilder(RetrySettings(**settings))
    request = FilterRequest(name="retry", value=value, matches=(), port=PortNode(number=80))
    service = msgspec.structs.replace(SERVICE, annotations=annotations or {})
    built = builder.build_filter([request], service)
    return msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), ServiceRetry)


def test_attempts_of_a_rule_are_retries_after_the_first_attempt():
    assert build_rule({"attempts": 3}).attempts == 4
    assert build_rule({}).attempts == 2
    assert build_rule({"attempts": 1000}).attempts == 100


def test_codes_of_a_rule_are_single_statuses_and_all_errors_of_connections_are_retried():
    found = build_rule({"codes": [503, 500, 429, 500]})
    assert found.statuses == ((429, 429), (500, 500), (503, 503))
    assert found.errors == ("connect-failure", "reset", "timeout")
    assert build_rule({}).statuses == ()


def test_the_backoff_of_a_rule_is_the_least_and_without_it_the_plugin_s_own_applies():
    found = build_rule({"backoff": "1m1s"}, backoff=0.5, budget=20.0, body_limit=7)
    assert (found.backoff_least_s, found.backoff_s, found.budget, found.body_limit) == (61, 0, 0.2, 7)
    found = build_rule({}, backoff=0.5)
    assert (found.backoff_least_s, found.backoff_s) == (0, 0.5)


@pytest.mark.parametrize(("percent", "share"), [("5", 0.05), ("0", 0.0), ("100", 1.0)])
def test_the_retries_of_a_rule_keep_to_the_budget_of_the_service(percent, share):
    assert build_rule({"attempts": 3}, {"retry-budget": percent}, budget=20.0).budget == share
    assert build_rule({"attempts": 3}, {"retry-attempts": "9", "retry-on": "5xx"}, budget=20.0).budget == 0.2


def test_a_budget_of_the_service_that_is_none_is_an_error_of_the_rule_too():
    with pytest.raises(ConfigurationError, match="annotation retry-budget: '101'"):
        build_rule({}, {"retry-budget": "101"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"attempts": 0}, "retry: attempts: 0 is less than 1"),
        ({"attempts": "3"}, "retry: attempts: "),
        ({"codes": [503, 200]}, "retry: codes: 200 is not a status from 400 to 599"),
        ({"codes": [600]}, "retry: codes: 600 is not"),
        ({"backoff": "1.5s"}, "retry: backoff: '1.5s' is not a duration"),
        ({"atempts": 3}, "retry: atempts: unknown field"),
    ],
)
def test_a_bad_field_of_a_rule_is_an_error_that_names_it(value, text):
    with pytest.raises(ConfigurationError) as caught:
        build_rule(value)
    assert text in str(caught.value)


def test_settings_of_a_controller_that_knows_no_least_backoff_are_read():
    built = msgspec.to_builtins(RetryBuilder(RetrySettings()).build_settings({"retry-attempts": "2"}, SERVICE))
    del built["backoffLeastS"]
    assert msgspec.convert(built, ServiceRetry).backoff_least_s == 0


@pytest.mark.parametrize("budget", [-1, 100.5, 200])
def test_a_budget_is_a_percentage(budget):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"budget": budget}, RetrySettings)
