"""Annotations in, a service's limit or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.controller import ControllerHalf, RateLimitBuilder
from maesh_ratelimit.settings import ServiceLimits

from maesh_core.plugin import ACCOUNTS, ConfigurationError, ObjectKey, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")


class Claims:
    """A kind of sources of another plugin."""

    name = "claim"

    def find_argument_problem(self, argument):
        return None if argument.isalpha() else "a claim is a word"


def start_builder(**settings):
    """Start the builder of a controller in which another plugin has the source `claim`."""
    builder = RateLimitBuilder(RateLimitSettings(**settings))
    builder.use_source_kinds({"claim": Claims()})
    return builder


def build(annotations, **settings):
    """Build what the proxy would get."""
    builder = start_builder(**settings)
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
            "annotation ratelimit-source: 'cookie' is not one of ip, account, host,",
        ),
        ({"average": "1", "source": "header:"}, "annotation ratelimit-source: 'header:' is not one of"),
        ({"average": "1", "source": "header:a b"}, "annotation ratelimit-source: 'header:a b' is not one of"),
        ({"period": "1s"}, "annotation ratelimit-period: '1s' has no effect without ratelimit-average or"),
        ({"headers": "true"}, "annotation ratelimit-headers: 'true' has no effect without ratelimit-average,"),
        ({"limits": "a: 5", "source": "ip"}, "annotation ratelimit-source: 'ip' has no effect without"),
        ({"average": "1", "store": "nodes"}, "'nodes' is not one of node, redis; did you mean node?"),
        ({"average": "1", "source": "account"}, "needs the accounts of clients: --set ratelimit.accounts=true"),
        ({"average": "1", "source": "ip,ip"}, "'ip,ip' has a source twice"),
        ({"average": "1", "source": "claim:1"}, "has an invalid source: a claim is a word"),
        ({"average": "1", "source": "path:users"}, "has an invalid path template: it does not start with /"),
        ({"limits": ""}, "annotation ratelimit-limits: '' has no limit"),
        ({"limits": "\n".join(f"l{number}: 1" for number in range(16))}, "has no limit, or 16 or more"),
        ({"limits": "a: 5\na: 6"}, "annotation ratelimit-limits: 'a: 6' has the name of another limit, a"),
        ({"limits": "default: 5"}, "has the name of another limit, default"),
        ({"limits": "A: 5"}, "annotation ratelimit-limits: 'A: 5' is not NAME: AVERAGE[/PERIOD]"),
        ({"limits": "a: 5 rate=3"}, "is not NAME: AVERAGE[/PERIOD]"),
        ({"limits": "a: 0"}, "has an invalid average: '0' is not a whole number from 1"),
        ({"limits": "a: 1/x"}, "has an invalid period: 'x' is not a duration"),
        ({"limits": "a: 1 burst=1 burst=2"}, "has burst twice"),
        ({"limits": "a: 1 burst=many"}, "has an invalid burst: 'many' is not a whole number"),
        ({"limits": "a: 1 store=mars"}, "has an invalid store: 'mars' is not one of node, redis"),
        (
            {"limits": "a: 1 source=cookie"},
            "annotation ratelimit-limits: 'a: 1 source=cookie' is not one of",
        ),
    ],
)
def test_a_bad_value_is_an_error_that_names_annotation_value_and_rule(annotations, words):
    with pytest.raises(ConfigurationError) as caught:
        build(annotations)
    assert words in str(caught.value)


def test_further_limits_have_names_and_the_defaults_of_the_annotations():
    found = build({"average": "9", "limits": "a: 5\n\n b : 7/1m burst=3 source=ip,path:/users/{id}\nc:1/h\n"}).limits
    assert [(each.name, each.average, each.burst, each.period_s, *each.sources) for each in found] == [
        ("default", 9, 9, 1.0, "ip"),
        ("a", 5, 5, 1.0, "ip"),
        ("b", 7, 3, 60.0, "ip", "path:/users/{id}"),
        ("c", 1, 1, 3600.0, "ip"),
    ]


def test_sources_of_other_plugins_and_accounts_can_be_used():
    found = build({"average": "1", "source": "account, claim:sub"}, accounts=True)
    assert found.limits[0].sources == ("account", "claim:sub")


def test_accounts_are_sent_only_if_the_settings_say_so():
    halves = [ControllerHalf(RateLimitSettings(accounts=accounts)) for accounts in (False, True)]
    assert [half.maesh_optional_sections() for half in halves] == [[], [ACCOUNTS]]


@pytest.mark.parametrize(
    ("annotation", "setting", "shown"),
    [(None, False, False), (None, True, True), ("true", False, True), ("false", True, False)],
)
def test_the_annotation_for_headers_replaces_the_setting(annotation, setting, shown):
    annotations = {"average": "1"} | ({"headers": annotation} if annotation else {})
    assert build(annotations, headers=setting).shows_headers is shown


def test_each_limit_is_described_in_a_line():
    built = build({"average": "9", "burst": "20", "limits": "login: 5/1m source=ip,path:/login"})
    assert start_builder().describe(msgspec.to_builtins(built)) == [
        "at most 9 requests per second for each address, 20 at once, on each node",
        "login: at most 5 requests per 60 s for each address and request path /login, on each node",
    ]


@given(
    st.dictionaries(
        st.sampled_from(["average", "burst", "period", "source", "limits", "store", "headers"]), st.text(max_size=20)
    )
)
def test_whatever_is_written_there_is_what_the_proxy_takes_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        found = build(annotations)
        assert (found is None) == (not annotations)
