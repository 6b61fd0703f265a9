"""Annotations in, a service's limit or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_ratelimit.controller import ControllerHalf
from maesh_ratelimit.settings import ServiceLimits

from maesh_core.plugin import ConfigurationError, ObjectKey, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")


def build(annotations):
    """Build what the proxy would get."""
    (builder,) = ControllerHalf().maesh_middleware_builders()
    built = builder.build_settings({f"ratelimit-{name}": text for name, text in annotations.items()}, SERVICE)
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), ServiceLimits)


def test_a_service_without_the_annotations_has_no_limit():
    assert build({}) is None


@pytest.mark.parametrize(
    ("annotations", "limit"),
    [
        ({"average": "100", "burst": "200"}, (100, 200, 1.0, "ip")),
        ({"average": "100"}, (100, 100, 1.0, "ip")),
        ({"burst": "200"}, (200, 200, 1.0, "ip")),
        ({"average": "5", "period": "1m", "source": "host"}, (5, 5, 60.0, "host")),
        ({"average": "1", "source": "header:X-User"}, (1, 1, 1.0, "header:x-user")),
    ],
)
def test_either_number_is_enough(annotations, limit):
    (found,) = build(annotations).limits
    assert (found.average, found.burst, found.period_s, *found.sources) == limit


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({"average": "many"}, "annotation ratelimit-average: 'many' is not a whole number from 1 to 1000000000"),
        ({"average": "0"}, "annotation ratelimit-average: '0' is not a whole number"),
        ({"average": "1", "burst": "-2"}, "annotation ratelimit-burst: '-2' is not a whole number"),
        ({"burst": "9" * 30}, "annotation ratelimit-burst: '999999999999999999999999999999' is not a whole number"),
        ({"average": "1", "period": "0s"}, "annotation ratelimit-period: '0s' is not a duration above 0"),
        (
            {"average": "1", "source": "cookie"},
            "annotation ratelimit-source: 'cookie' is not one of ip, host,",
        ),
        ({"average": "1", "source": "header:"}, "annotation ratelimit-source: 'header:' is not one of"),
        ({"average": "1", "source": "header:a b"}, "annotation ratelimit-source: 'header:a b' is not one of"),
        ({"period": "1s"}, "annotation ratelimit-period: '1s' has no effect without ratelimit-average or"),
    ],
)
def test_a_bad_value_is_an_error_that_names_annotation_value_and_rule(annotations, words):
    with pytest.raises(ConfigurationError) as caught:
        build(annotations)
    assert words in str(caught.value)


@given(st.dictionaries(st.sampled_from(["average", "burst", "period", "source"]), st.text(max_size=20)))
def test_whatever_is_written_there_is_what_the_proxy_takes_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        found = build(annotations)
        assert (found is None) == (not annotations)
