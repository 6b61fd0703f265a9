"""Settings and variables in, the settings in force out."""

import pytest
from maesh_otel import OtelSettings
from maesh_otel.environment import find_export_settings

ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
SAMPLER, ARGUMENT = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"


def find(variables=None, **settings):
    return find_export_settings(OtelSettings(**settings), variables or {})


def test_the_defaults_send_a_hundredth_to_a_collector_on_this_machine():
    found = find()
    assert (found.endpoint, found.protocol, found.sample) == (
        "http://127.0.0.1:4318/v1/traces",
        "http/protobuf",
        0.01,
    )
    assert (found.service_name, found.headers) == ("", None)
    assert find(protocol="grpc").endpoint == "http://127.0.0.1:4317"


@pytest.mark.parametrize(
    ("variables", "setting", "endpoint"),
    [
        ({}, "http://c:1", "http://c:1/v1/traces"),
        ({}, "http://c:1/", "http://c:1/v1/traces"),
        ({}, "https://c/otlp", "https://c/otlp/v1/traces"),
        ({}, "http://c:1/v1/traces", "http://c:1/v1/traces"),
        ({ENDPOINT: "http://v:2"}, "", "http://v:2/v1/traces"),
        ({ENDPOINT: "http://v:2"}, "http://c:1", "http://c:1/v1/traces"),
        ({ENDPOINT: "http://v:2", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:3/x"}, "", "http://t:3/x"),
        ({ENDPOINT: "http://v:2", PROTOCOL: "grpc"}, "", "http://v:2"),
        ({ENDPOINT: " "}, "", "http://127.0.0.1:4318/v1/traces"),
    ],
)
def test_the_setting_wins_over_the_variables(variables, setting, endpoint):
    assert find(variables, endpoint=setting).endpoint == endpoint


@pytest.mark.parametrize(
    ("variables", "sample"),
    [
        ({SAMPLER: "always_on"}, 1),
        ({SAMPLER: "parentbased_always_off"}, 0),
        ({SAMPLER: "parentbased_traceidratio", ARGUMENT: "0.2"}, 0.2),
        ({SAMPLER: "traceidratio"}, 1),
        ({SAMPLER: "jaeger_remote"}, 0.01),
        ({ARGUMENT: "0.2"}, 0.01),
    ],
)
def test_the_variable_of_the_sampler_applies(variables, sample):
    assert find(variables).sample == sample
    assert find(variables, sample=0.7).sample == 0.7


def test_the_protocol_for_traces_wins_over_that_for_all_signals():
    assert find({PROTOCOL: "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}).protocol == "grpc"
    assert find({PROTOCOL: "grpc"}, protocol="http/protobuf").protocol == "http/protobuf"


def test_headers_are_pairs_with_names_in_lower_case():
    assert find(headers=("X-Key=a=b", "y=1")).headers == {"x-key": "a=b", "y": "1"}


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({PROTOCOL: "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' is not one of http/protobuf, grpc"),
        ({ENDPOINT: "collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT: 'collector' is not a URL such as"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "tcp://a:1"}, "TRACES_ENDPOINT: 'tcp://a:1' is not a URL"),
        ({SAMPLER: "traceidratio", ARGUMENT: "2"}, "OTEL_TRACES_SAMPLER_ARG: '2' is not a number from 0 to 1"),
        ({SAMPLER: "traceidratio", ARGUMENT: "nan"}, "'nan' is not a number"),
    ],
)
def test_a_bad_variable_is_named(variables, text):
    with pytest.raises(ValueError, match=text):
        find(variables)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"endpoint": "collector:4318"}, "endpoint: 'collector:4318' is not a URL"),
        ({"endpoint": "http://c:99999"}, "is not a URL"),
        ({"headers": ("x: secret",)}, "headers: number 1 is not NAME=VALUE"),
        ({"headers": ("a=1", "a b=secret")}, "headers: number 2, 'a b', "),
    ],
)
def test_a_bad_setting_is_named_without_its_secret(settings, text):
    with pytest.raises(ValueError, match=text) as caught:
        OtelSettings(**settings)
    assert "secret" not in str(caught.value)
