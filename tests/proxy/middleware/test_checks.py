"""What can be a middleware, and what is refused before it could let anybody in."""

import pytest

from maesh_core.plugin_system.interfaces import Response
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.middleware.checks import (
    HTTP_METHODS,
    METHODS,
    STREAM_METHODS,
    find_middleware_problem,
    has_any,
)


def build(**attributes):
    return type("Made", (), attributes)()


def see(self, *arguments):
    """Stand in for any method."""


async def wait(self, *arguments):
    """Stand in for an async method."""


def give(self, *arguments):
    yield


async def give_later(self, *arguments):
    yield


def test_what_is_called_of_requests_and_connections_is_what_the_interface_declares():
    others = {"is_still_allowed", "judge_changed", "judge_copy", "judge_delivery", "skips_request"}
    assert {*HTTP_METHODS, *STREAM_METHODS, *others} == set(METHODS)


@pytest.mark.parametrize("name", sorted(set(METHODS)))
def test_one_method_is_enough(name):
    assert find_middleware_problem(build(**{name: see})) is None


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_none_is_absent(name):
    assert "none of the methods" in find_middleware_problem(build(**{name: None}))
    other = "on_finished" if name != "on_finished" else "on_request"
    middleware = build(**{name: None, other: see})
    assert find_middleware_problem(middleware) is None
    assert not has_any(middleware, (name,))
    assert has_any(middleware, (name, other))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value", [1, "see", Response(status=403, reason="no"), ()])
def test_a_method_that_cannot_be_called_is_refused(name, value):
    assert f"has {name}, which is not callable" in find_middleware_problem(build(**{"on_finished": see, name: value}))


@pytest.mark.parametrize("name", METHODS)
def test_every_slip_of_one_letter_is_refused_with_the_name_that_was_meant(name):
    """A letter left out, doubled, or two of them changed about, anywhere but in the prefix."""
    start = 3
    slips = {name[:at] + name[at + 1 :] for at in range(start, len(name)) if name[at] != "_"}
    slips |= {name[:at] + name[at] + name[at:] for at in range(start, len(name)) if name[at] != "_"}
    slips |= {name[:at] + name[at + 1] + name[at] + name[at + 2 :] for at in range(start, len(name) - 1)}
    for slip in slips - set(METHODS):
        problem = find_middleware_problem(build(**{slip: see, "on_finished": see}))
        assert problem is not None, slip
        assert f"has {slip}, which is not a method of middlewares" in problem
        assert "did you mean" in problem, slip


@pytest.mark.parametrize("slip", ["onRequest", "onrequest", "on_Request", "isStillAllowed", "is_stil_allowed"])
def test_other_spellings_are_refused_too(slip):
    assert "did you mean" in find_middleware_problem(build(**{slip: see, "on_finished": see}))


def test_a_name_of_the_reserved_prefix_is_refused_whatever_it_is():
    assert "the methods are: on_request" in find_middleware_problem(build(on_everything=see, on_request=see))
    middleware = build(on_request=see)
    middleware.on_demand = True
    assert "has on_demand" in find_middleware_problem(middleware)


@pytest.mark.parametrize("name", ["request", "response", "connect", "is_allowed", "once", "attempts", "_on_requst"])
def test_names_of_a_plugins_own_are_its_own(name):
    assert find_middleware_problem(build(**{name: see, "on_request": see})) is None


@pytest.mark.parametrize("name", METHODS)
def test_only_on_request_may_be_async(name):
    problem = find_middleware_problem(build(**{name: wait}))
    assert (problem is None) is (name == "on_request")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("method", [give, give_later])
def test_a_generator_decides_nothing_and_is_refused(name, method):
    assert "is a generator" in find_middleware_problem(build(**{name: method}))


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"kept_bytes": "1k"}, "kept_bytes"),
        ({"kept_bytes": -1}, "kept_bytes"),
        ({"kept_bytes": True}, "kept_bytes"),
        ({"failure_response": 503}, "failure_response"),
        ({"kept_bytes": None, "failure_response": None}, None),
        ({"kept_bytes": 10, "failure_response": Response(status=503, reason="no")}, None),
    ],
)
def test_the_two_values_have_their_types_or_are_absent(attributes, word):
    problem = find_middleware_problem(build(on_request=see, **attributes))
    assert problem is None if word is None else word in problem


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_takes_other_arguments_is_refused_with_those_that_it_is_given(name):
    problem = find_middleware_problem(build(**{name: lambda self: None}))
    assert problem.startswith(f"has {name}, which takes (), not (")
    instance = build()
    setattr(instance, name, lambda: None)
    assert find_middleware_problem(instance) == problem
    problem = find_middleware_problem(build(**{name: lambda self, *arguments, extra=1: None}))
    assert problem is None


def test_a_wrapper_that_hands_on_what_it_is_asked_for_is_a_middleware():
    class Wrapper:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

    assert find_middleware_problem(Wrapper(build(on_request=see))) is None
    assert "none of the methods" in find_middleware_problem(Wrapper(object()))


class Derived(Middleware):
    def on_request(self, exchange):
        return None


def test_what_is_derived_has_only_the_methods_that_it_overrides():
    middleware = Derived()
    assert find_middleware_problem(middleware) is None
    assert has_any(middleware, HTTP_METHODS)
    assert not has_any(middleware, STREAM_METHODS)
    assert [name for name in METHODS if has_any(middleware, (name,))] == ["on_request"]


def test_a_derived_middleware_with_an_unknown_name_is_refused_with_the_nearest():
    class Misspelt(Derived):
        def on_respnse(self, exchange):
            return None

    assert find_middleware_problem(Misspelt()) == (
        "has on_respnse, which is not a method of middlewares; did you mean on_response?"
    )
