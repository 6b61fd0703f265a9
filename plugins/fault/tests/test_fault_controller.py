"""Annotations in, a service's faults or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_fault.controller import FaultBuilder
from maesh_fault.settings import Faults

from maesh_core.plugin import ConfigurationError, ObjectKey, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
BUILDER = FaultBuilder()


def build(annotations):
    built = BUILDER.build_settings({f"fault-{name}": text for name, text in annotations.items()}, SERVICE)
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), Faults)


def test_a_service_without_the_annotations_has_no_faults():
    assert build({}) is None


def test_annotations_become_faults():
    found = build({"delay": "2s", "delay-percent": "10", "abort": "503", "abort-percent": "0.5"})
    assert found == Faults(delay_s=2.0, delay_share=0.1, status=503, abort_share=0.005)
    assert build({"delay": "500ms"}) == Faults(delay_s=0.5)
    assert build({"abort": " deadline-exceeded "}) == Faults(grpc_status=4)
    assert build({"abort": "503", "abort-percent": "0"}) == Faults(status=503, abort_share=0.0)


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"delay": "soon"}, "annotation fault-delay: 'soon' is not a duration such as"),
        ({"delay": "0s"}, "annotation fault-delay: '0s' is not a duration above 0"),
        ({"delay": "61s"}, "annotation fault-delay: '61s' is longer than 1m"),
        ({"delay-percent": "5"}, "annotation fault-delay-percent: '5' has no effect without fault-delay"),
        ({"abort-percent": "5"}, "annotation fault-abort-percent: '5' has no effect without fault-abort"),
        ({"abort": "5xx"}, "annotation fault-abort: '5xx' is not a status from 400 to 599 or the name of a gRPC"),
        ({"abort": "302"}, "annotation fault-abort: '302' is not a status from 400 to 599"),
        ({"abort": "ok"}, "annotation fault-abort: 'ok' is not a status from 400 to 599"),
        ({"abort": "\u0665\u0665\u0665"}, "annotation fault-abort: '\u0665\u0665\u0665' is not a status"),
        ({"abort": "500", "abort-percent": "-1"}, "annotation fault-abort-percent: '-1' is not a number from 0 to 100"),
        ({"delay": "1s", "delay-percent": "nan"}, "annotation fault-delay-percent: 'nan' is not a number from 0"),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_it_and_the_rule(annotations, text):
    with pytest.raises(ConfigurationError) as caught:
        build(annotations)
    assert str(caught.value).startswith(text)


def test_a_misspelt_grpc_status_gets_a_suggestion():
    with pytest.raises(ConfigurationError, match="did you mean unavailable"):
        build({"abort": "unavailible"})


@pytest.mark.parametrize(
    ("settings", "status", "reasons"),
    [
        ({"delayS": 2.0, "delayShare": 0.1}, 0, ("10 % of the requests are delayed by 2 s",)),
        ({"status": 503}, 503, ("100 % of the requests fail with 503",)),
        ({"status": 503, "abortShare": 0.005}, 0, ("0.5 % of the requests fail with 503",)),
        ({"grpcStatus": 14, "abortShare": 0.5}, 0, ("50 % of the gRPC calls fail with UNAVAILABLE",)),
    ],
)
def test_the_explanation_names_the_share_and_the_effect_of_each_fault(settings, status, reasons):
    verdict = BUILDER.explain(settings, None)
    assert (verdict.is_admitted, verdict.status, verdict.reasons) == (status == 0, status, reasons)


@given(
    st.dictionaries(
        st.sampled_from(["delay", "delay-percent", "abort", "abort-percent"]), st.text(max_size=12), min_size=1
    )
)
def test_any_annotations_give_faults_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        assert build(annotations) != Faults()
