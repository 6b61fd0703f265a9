"""Chains: what is in them, and in which order."""

import pytest

from maesh_core.model.skip_count import SkipCount
from maesh_core.plugin_system.field_changes import FieldChanges
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, collect_judges, compile_chain, read_verdict

METHODS = ("on_request", "on_attempt", "on_attempt_failed", "on_response", "on_finished")


class Whole:
    kept_bytes = 7

    def on_request(self, exchange):
        pass

    def on_attempt(self, exchange):
        pass

    def on_attempt_failed(self, exchange, error):
        pass

    def on_response(self, exchange):
        pass

    def on_finished(self, exchange):
        pass


class Async:
    async def on_request(self, exchange):
        pass


class OnlyFinished:
    def on_finished(self, exchange):
        pass


def list_calls(chain):
    return [getattr(chain, name) for name in (*METHODS, "is_still_allowed")]


def test_no_middlewares_make_an_empty_chain():
    assert list_calls(compile_chain([])) == list_calls(EMPTY_CHAIN) == [()] * 6
    assert compile_chain([]).depth == 0


def test_requests_go_outermost_first_and_the_rest_innermost_first():
    outer, inner = Whole(), Whole()
    chain = compile_chain([outer, inner])
    assert [step.call for step in chain.on_request] == [outer.on_request, inner.on_request]
    assert chain.on_attempt == (outer.on_attempt, inner.on_attempt)
    assert chain.on_attempt_failed == (inner.on_attempt_failed, outer.on_attempt_failed)
    assert chain.on_response == (inner.on_response, outer.on_response)
    assert [step.call for step in chain.on_finished] == [inner.on_finished, outer.on_finished]


def test_methods_that_are_absent_are_in_no_tuple():
    finished = OnlyFinished()
    chain = compile_chain([Async(), object(), finished])
    assert [step.depth for step in chain.on_request] == [1]
    assert list_calls(chain)[1:4] == [(), (), ()]
    assert [(step.call, step.depth) for step in chain.on_finished] == [(finished.on_finished, 3)]
    assert (chain.depth, chain.kept_bytes) == (3, 0)


def test_a_method_that_is_none_is_absent():
    whole = Whole()
    for name in (*METHODS, "kept_bytes"):
        setattr(whole, name, None)
    chain = compile_chain([whole])
    assert list_calls(chain) == [()] * 6
    assert (chain.depth, chain.kept_bytes) == (1, 0)


class Derived(Middleware):
    def on_finished(self, exchange):
        pass


def test_defaults_of_the_base_class_are_in_no_tuple():
    finished = Derived()
    chain = compile_chain([Middleware(), finished])
    assert [(step.call, step.depth) for step in chain.on_finished] == [(finished.on_finished, 2)]
    assert list_calls(chain) == [(), (), (), (), chain.on_finished, ()]
    assert collect_judges([Middleware(), finished], "on_connect") == ()


@pytest.mark.parametrize(("verdict", "is_allowed"), [(True, True), (False, False), (None, None)])
def test_a_verdict_is_true_false_or_none(verdict, is_allowed):
    for default in (True, False):
        assert read_verdict(verdict, default=default) is (default if is_allowed is None else is_allowed)


@pytest.mark.parametrize("verdict", [1, 0, "", "no", [], 0.0, object()])
def test_nothing_else_is_a_verdict(verdict):
    with pytest.raises(TypeError, match="expected True, False or None, not"):
        read_verdict(verdict, default=True)


def test_the_most_that_a_middleware_wants_of_a_body_is_kept():
    greedy = Whole()
    greedy.kept_bytes = 9
    assert compile_chain([Whole(), greedy, object()]).kept_bytes == 9


class Skipping(Whole):
    skip_count = SkipCount(3)

    def skips_request(self, head):
        return True


class Judging(Skipping):
    def is_still_allowed(self, connection):
        return True


def test_only_one_middleware_alone_that_is_no_judge_can_skip_requests():
    skipping = Skipping()
    assert compile_chain([skipping]).skips_request == skipping.skips_request
    assert compile_chain([skipping]).skip_count is skipping.skip_count is not None
    for middlewares in ([skipping, skipping], [skipping, Whole()], [Judging()], [Whole()], [Middleware()], []):
        chain = compile_chain(middlewares)
        assert (chain.skips_request, chain.skip_count) == (None, None)


class ChoosesChanges(Whole):
    def choose_request_changes(self, head):
        return FieldChanges(())

    def choose_response_changes(self, head):
        return FieldChanges(())


def test_changes_for_a_head_are_chosen_just_before_the_calls_of_the_same_middleware():
    outer, plain, inner = ChoosesChanges(), Whole(), ChoosesChanges()
    chain = compile_chain([outer, plain, inner])
    requests = [getattr(step.call, "method", step.call) for step in chain.on_request]
    assert requests == [
        outer.choose_request_changes,
        outer.on_request,
        plain.on_request,
        inner.choose_request_changes,
        inner.on_request,
    ]
    assert [step.depth for step in chain.on_request] == [1, 1, 2, 3, 3]
    assert [getattr(call, "method", call) for call in chain.on_response] == [
        inner.choose_response_changes,
        inner.on_response,
        plain.on_response,
        outer.choose_response_changes,
        outer.on_response,
    ]


class Sticky(Whole):
    keeps_choice: object = True

    def choose_backend(self, head, backends):
        return None


def test_a_choice_is_kept_only_if_all_that_choose_say_so():
    kept, asked = Sticky(), Sticky()
    asked.keeps_choice = 1
    chain = compile_chain([kept, Whole()])
    assert chain.keeps_choice
    assert [type(call).__name__ for call in chain.on_response] == ["method", "UnlessChosen"]
    assert chain.on_response[1].chooser is chain.choose_backend[0]
    both = compile_chain([kept, asked])
    assert not both.keeps_choice
    assert both.on_response[0] == asked.on_response
