import asyncio
import json
import threading

import pytest

from maesh_core.controller.api.explanations import CLIENT_LIMIT, QUESTIONS_LIMIT, Explanations
from maesh_core.controller.explaining import excerpt
from maesh_core.plain_http.messages import Request

from ..explaining.test_excerpt import build_example

QUESTION = "client=127.0.0.1&service=web.canary"


@pytest.fixture
async def explanations():
    explanations = Explanations(await build_example("canary"))
    yield explanations
    explanations.close()


@pytest.fixture
def held(monkeypatch):
    """Hold answers in their thread until the event is set."""
    event, answer = threading.Event(), excerpt.answer_question

    def wait(asked, collected):
        assert event.wait(60)
        return answer(asked, collected)

    monkeypatch.setattr(excerpt, "answer_question", wait)
    yield event
    event.set()


def ask(explanations, query=QUESTION, remote="10.0.0.1"):
    return explanations.answer(Request(target=f"/api/explain?{query}".encode(), remote=remote))


async def test_a_question_is_answered_with_the_verdict(explanations):
    response = await ask(explanations)
    assert response.status == 200
    found = json.loads(response.body)
    assert (found["service"], found["isAdmitted"]) == ("canary/web", True)


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, b"client is missing"),
        ("client=10.0.0.1&service=wbe.canary", 404, b"the mesh knows no service wbe in namespace canary"),
    ],
)
async def test_an_answer_without_a_verdict_says_why(explanations, query, status, text):
    response = await ask(explanations, query)
    assert (response.status, response.body[: len(text)]) == (status, text)


async def test_the_event_loop_runs_while_a_question_is_answered(explanations, held):
    task = asyncio.create_task(ask(explanations))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    held.set()
    assert (await task).status == 200


async def test_one_client_cannot_use_the_places_of_all(explanations, held):
    tasks = [asyncio.create_task(ask(explanations)) for _ in range(CLIENT_LIMIT)]
    await asyncio.sleep(0)
    refused = await ask(explanations)
    assert refused.status == 503
    assert (b"Retry-After", b"1") in refused.fields
    tasks.append(asyncio.create_task(ask(explanations, remote="10.0.0.2")))
    held.set()
    assert [(await task).status for task in tasks] == [200] * (CLIENT_LIMIT + 1)


async def test_the_questions_that_wait_are_limited(explanations, held):
    tasks = [asyncio.create_task(ask(explanations, remote=f"10.0.0.{n}")) for n in range(QUESTIONS_LIMIT)]
    await asyncio.sleep(0)
    assert (await ask(explanations, remote="10.0.1.1")).status == 503
    held.set()
    assert {(await task).status for task in tasks} == {200}


async def test_a_client_that_leaves_makes_room_for_others(explanations, held):
    tasks = [asyncio.create_task(ask(explanations)) for _ in range(CLIENT_LIMIT)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert repr(explanations) == "<Explanations 0 in progress>"
    held.set()
    assert (await ask(explanations)).status == 200
