"""Annotations in, the tracing of a service out."""

import pytest
from maesh_otel import OtelSettings
from maesh_otel.controller import ControllerHalf, TracingBuilder
from maesh_otel.settings import ServiceTracing

from maesh_core.plugin import POD_NAMES, ConfigurationError, Stage

BUILDER = TracingBuilder()


@pytest.mark.parametrize(
    ("annotations", "sample"),
    [({}, None), ({"tracing": "true"}, None), ({"trace-sample": "0.25"}, 0.25), ({"trace-sample": "0"}, 0.0)],
)
def test_a_service_is_traced_with_the_share_that_it_asks_for(annotations, sample):
    assert BUILDER.build_settings(annotations, None) == ServiceTracing(sample=sample)


def test_a_service_can_opt_out():
    assert BUILDER.build_settings({"tracing": "false"}, None) is None


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"tracing": "maybe"}, "annotation tracing: 'maybe' is not true or false"),
        ({"trace-sample": "1%"}, "annotation trace-sample: '1%' is not a number from 0 to 1"),
        ({"trace-sample": "nan"}, "annotation trace-sample: 'nan' is not a number from 0 to 1"),
        ({"trace-sample": "0.1", "tracing": "false"}, "annotation trace-sample: '0.1' has no effect with tracing"),
    ],
)
def test_a_bad_annotation_is_an_error(annotations, text):
    with pytest.raises(ConfigurationError, match=text):
        BUILDER.build_settings(annotations, None)


def test_tracing_is_outside_every_other_middleware():
    assert BUILDER.stage == min(Stage)


@pytest.mark.parametrize(("sample", "text"), [(None, "the proxy's setting"), (0.5, "0.5")])
def test_it_explains_that_it_refuses_nothing(sample, text):
    verdict = BUILDER.explain({"sample": sample}, None)
    assert verdict.is_admitted
    assert verdict.reasons == (f"traced, share {text} of requests; it refuses no request",)


@pytest.mark.parametrize("names_pods", [False, True])
def test_names_of_pods_are_sent_only_if_spans_show_them(names_pods):
    half = ControllerHalf(OtelSettings(client_pods=names_pods))
    assert half.maesh_optional_sections() == [POD_NAMES] * names_pods
