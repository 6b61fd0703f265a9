"""Middlewares are asked in their order, and what they say becomes one verdict and lines for a person."""

from maesh_core.controller.explaining.passage import Question, QuestionHeaders, explain_passage
from maesh_core.model.configuration import Middleware, Section
from maesh_core.plugin_system.interfaces import Verdict

QUESTION = Question(
    client_address="10.0.0.1",
    client_account="client@shop",
    client_pods=(),
    destination="shop/web:80",
    traffic_type="http",
    is_http=True,
    method=b"GET",
    target=b"/",
    client_headers=QuestionHeaders([("Accept", "a"), ("accept", "b")]),
    problems={},
    topology={},
)


class Judge:
    """A builder whose middlewares say what their settings contain."""

    def explain(self, settings, question):
        return Verdict(**settings)


class Broken:
    def explain(self, settings, question):
        raise ValueError("no\nsetting")


def ask(**chain):
    """Ask a chain, `key=settings`, in which a key starts with the kind; return the passage and the steps."""
    middlewares = {key: Middleware(kind=key.partition("_")[0], settings=settings) for key, settings in chain.items()}
    steps = []
    builders = {"judge": Judge(), "broken": Broken()}
    return explain_passage(
        list(chain), Section(middlewares=middlewares), QUESTION, builders=builders, steps=steps
    ), steps


def test_the_first_refusal_decides_and_later_middlewares_are_not_asked():
    refusal = {"is_admitted": False, "reasons": ["no"]}
    passage, steps = ask(judge_1={"is_admitted": True, "reasons": ["yes"]}, judge_2=refusal, broken={})
    assert (passage.verdict.is_admitted, passage.verdict.reasons) == (False, ["no"])
    assert (passage.undecided, passage.reasons, steps) == ((), (), ["judge: yes"])


def test_a_middleware_that_raises_or_does_not_explain_itself_is_undecided():
    passage, steps = ask(broken={}, silent={})
    assert passage.verdict.is_admitted
    assert passage.undecided == ["broken", "silent"]
    assert [each.partition(";")[0] for each in steps] == [
        "broken: this middleware cannot explain itself (ValueError: no setting)",
        "silent: this middleware does not explain itself",
    ]


def test_an_admission_keeps_the_allowed_servers_and_what_audit_mode_lets_pass():
    passage, steps = ask(
        judge_1={"is_admitted": True, "servers": (("10.0.1.1", 80),)},
        judge_2={"is_admitted": True, "would_deny": ["no rule"]},
    )
    assert passage.verdict.servers == (("10.0.1.1", 80),)
    assert list(passage.verdict.would_deny) == steps == ["judge: would deny: no rule"]


def test_fields_of_a_request_in_question_are_found_in_any_case():
    headers = QUESTION.client_headers
    assert (headers.get(b"ACCEPT"), headers.get(b"host")) == (b"a", None)
    assert headers.get_all(b"Accept") == [b"a", b"b"]
    assert headers.items() == list(headers) == [(b"accept", b"a"), (b"accept", b"b")]
