"""Annotations in, a service's limit or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_concurrency import ConcurrencySettings
from maesh_concurrency.controller import ConcurrencyBuilder, ControllerHalf
from maesh_concurrency.settings import ServiceConcurrency

from maesh_core.plugin import ACCOUNTS, ConfigurationError, ObjectKey, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
NAMES = {"": "limit-concurrency"} | {name: f"limit-concurrency-{name}" for name in ("adaptive", "min", "source")}


def build(annotations, **settings):
    """Build what the proxy would get."""
    builder = ConcurrencyBuilder(ConcurrencySettings(**settings))
    built = builder.build_settings({NAMES[name]: text for name, text in annotations.items()}, SERVICE)
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), ServiceConcurrency)


def test_a_service_without_the_annotations_has_no_limit():
    assert build({}) is None


@pytest.mark.parametrize(
    ("annotations", "settings"),
    [
        ({"": "100"}, ServiceConcurrency(limit=100)),
        ({"": "5", "source": "header:X-User,ip"}, ServiceConcurrency(limit=5, sources=("header:x-user", "ip"))),
        ({"": "9", "adaptive": "true"}, ServiceConcurrency(limit=9, is_adaptive=True)),
        ({"": "9", "adaptive": "true", "min": "3"}, ServiceConcurrency(limit=9, is_adaptive=True, smallest=3)),
        ({"": "9", "adaptive": "false", "min": "3"}, ServiceConcurrency(limit=9, smallest=3)),
    ],
)
def test_annotations_define_a_limit(annotations, settings):
    assert build(annotations) == settings


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({"": "0"}, "annotation limit-concurrency: '0' is not a whole number from 1 to 1000000"),
        ({"source": "ip"}, "annotation limit-concurrency-source: 'ip' has no effect without limit-concurrency"),
        ({"": "5", "min": "3"}, "annotation limit-concurrency-min: '3' has no effect without limit-concurrency-adap"),
        ({"": "5", "adaptive": "true", "min": "6"}, "annotation limit-concurrency-min: '6' is above limit-concurrency"),
        ({"": "5", "adaptive": "true", "source": "ip"}, "cannot be combined with limit-concurrency-adaptive"),
        ({"": "5", "source": "account"}, "needs the accounts of clients: --set concurrency.accounts=true"),
        ({"": "5", "source": "cookie"}, "annotation limit-concurrency-source: 'cookie' is not one of ip, account"),
    ],
)
def test_a_bad_value_is_an_error_that_names_annotation_value_and_rule(annotations, words):
    with pytest.raises(ConfigurationError) as caught:
        build(annotations)
    assert words in str(caught.value)


def test_accounts_are_sent_only_if_the_settings_say_so():
    halves = [ControllerHalf(ConcurrencySettings(accounts=accounts)) for accounts in (False, True)]
    assert [half.maesh_optional_sections() for half in halves] == [[], [ACCOUNTS]]
    assert build({"": "5", "source": "account"}, accounts=True).sources == ("account",)


@pytest.mark.parametrize(
    ("annotations", "line"),
    [
        ({"": "9"}, "at most 9 requests at once, on each node"),
        ({"": "9", "source": "ip"}, "at most 9 requests at once for each address, on each node"),
        (
            {"": "9", "adaptive": "true", "min": "3"},
            "at most 9 requests at once, on each node, adapted to the latency down to 3",
        ),
    ],
)
def test_a_limit_is_described_in_a_line(annotations, line):
    builder = ConcurrencyBuilder(ConcurrencySettings())
    assert builder.describe(msgspec.to_builtins(build(annotations))) == [line]


@given(st.dictionaries(st.sampled_from(["", "adaptive", "min", "source"]), st.text(max_size=20)))
def test_whatever_is_written_there_is_what_the_proxy_gets_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        assert (build(annotations) is None) == (not annotations)
