"""What plugins say about the mesh: texts of anyone in, limited printable lines out."""

import msgspec

from maesh_core.controller.api.conditions import (
    ANSWER_S,
    PATH,
    PROBLEMS_LIMIT,
    TEXT_LIMIT,
    UNKNOWN,
    Conditions,
    fetch_conditions,
)
from maesh_core.errors import ApiRefusedError, MaeshError
from maesh_core.plugin_system.conditions import MeshCondition
from maesh_core.plugin_system.pages import PageRequest


def build(*problems: str, found: tuple[str, ...] = ()) -> MeshCondition:
    return MeshCondition(id="stores", title="stores answer", hint="Look.", problems=problems, found=found)


class Checker:
    def __init__(self, *conditions: MeshCondition, error: Exception | None = None) -> None:
        self.conditions, self.error, self.calls = conditions, error, 0

    async def check_conditions(self) -> tuple[MeshCondition, ...]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.conditions


def describe(checker: object) -> str:
    return "plugin 'stores'"


async def test_the_page_has_the_conditions_of_all_checkers() -> None:
    page = Conditions([Checker(build("a is away")), Checker(build(found=("2 proxies",)))], describe)
    response = await page.respond(PageRequest())
    assert (page.path, page.is_costly, response.content_type) == (PATH, True, "application/json")
    assert msgspec.json.decode(response.body) == [
        {"id": "stores", "title": "stores answer", "hint": "Look.", "problems": ["a is away"]},
        {"id": "stores", "title": "stores answer", "hint": "Look.", "found": ["2 proxies"]},
    ]


async def test_a_checker_that_raises_is_a_problem_and_the_others_are_asked() -> None:
    found = await Conditions([Checker(error=ValueError("oh\nno")), Checker(build("b"))], describe).check()
    assert [each.id for each in found] == [UNKNOWN, "stores"]
    assert found[0].problems == ("plugin 'stores': ValueError: oh no",)


async def test_an_answer_is_reused_for_a_second() -> None:
    now, checker = [100.0], Checker(build("a"))
    conditions = Conditions([checker], describe, clock=lambda: now[0])
    for seconds, calls in ((0.0, 1), (ANSWER_S / 2, 1), (ANSWER_S / 2, 2)):
        now[0] += seconds
        await conditions.check()
        assert checker.calls == calls


async def test_texts_are_printable_and_their_number_and_length_are_limited() -> None:
    (found,) = await Conditions([Checker(build("\x1b[31m" + "x" * 2 * TEXT_LIMIT, *"y" * 30))], describe).check()
    assert "\x1b" not in found.problems[0]
    assert len(found.problems[0]) == TEXT_LIMIT
    assert len(found.problems) == PROBLEMS_LIMIT + 1
    assert found.problems[-1] == "and 11 more"


async def fetch_from(answer: bytes | MaeshError) -> tuple[MeshCondition, ...]:
    async def fetch(path: str) -> bytes:
        assert path == PATH
        if isinstance(answer, MaeshError):
            raise answer
        return answer

    return await fetch_conditions(fetch)


async def test_what_a_controller_answers_is_read_without_trusting_it() -> None:
    assert await fetch_from(msgspec.json.encode([build("a\nb")])) == (build("a b"),)
    for broken in (b"{", b"[" * 50_000, b'[{"id": 1}]', b'"\xff"'):
        (unknown,) = await fetch_from(broken)
        assert (unknown.id, len(unknown.problems)) == (UNKNOWN, 1)


async def test_an_earlier_controller_has_no_conditions_and_one_that_does_not_answer_has_a_problem() -> None:
    assert await fetch_from(ApiRefusedError("not found", status=404)) == ()
    (unknown,) = await fetch_from(MaeshError("no answer in time"))
    assert unknown.problems == (f"{PATH}: no answer in time",)
