"""The base class of middlewares: what type checkers find in an author's code, and the order of calls, said once."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from maesh_core.plugin import Middleware, override
from maesh_core.plugin_system.middleware import CALLED_INNERMOST_FIRST, CALLED_OUTERMOST_FIRST
from maesh_core.proxy.middleware.checks import METHODS, find_middleware_problem

ROOT = Path(__file__).resolve().parents[2]

PLUGIN = """
from collections.abc import Sequence

from maesh_core.plugin import Connection, Exchange, Middleware, MiddlewareFactory, Response, hookimpl, override


class Right(Middleware):
    failure_response = Response(status=503, reason="no")

    def __init__(self) -> None:
        self.kept_bytes = 10

    @override
    async def on_request(self, exchange: Exchange) -> Response | None:
        return None

    @override
    def on_response(self, exchange: Exchange) -> bool | None:
        return exchange.status == 503

    @override
    def is_still_allowed(self, connection: Connection) -> bool:
        return connection.server is not None


class Wrong(Middleware):
    kept_bytes = "1k"  # E: Incompatible types in assignment

    def on_request(self, exchange: Connection) -> None:  # E: Argument 1 of "on_request" is incompatible
        return None

    async def on_response(self, exchange: Exchange) -> None:  # E: Return type "Coroutine[Any, Any, None]"
        return None

    def on_attempt_failed(self, exchange: Exchange) -> None:  # E: Signature of "on_attempt_failed" incompatible
        return None

    def on_attempt(self, exchange: Exchange) -> int:  # E: Return type "int" of "on_attempt" incompatible
        return 503

    def is_still_allowed(self, connection: Connection) -> None:  # E: Return type "None" of "is_still_allowed"
        return None


class Misspelt(Middleware):
    @override
    def on_requst(self, exchange: Exchange) -> None:  # E: no base method was found with this name
        return None


class Underived:
    def on_request(self, exchange: Exchange) -> None:
        return None


class Factory:
    kind = "right"
    settings_type = dict

    def build_middleware(self, settings: dict[str, str], service: str) -> Right:
        return Right()


class UnderivedFactory:
    kind = "underived"
    settings_type = dict

    def build_middleware(self, settings: dict[str, str], service: str) -> Underived:
        return Underived()


class Half:
    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        return [Factory()]


class UnderivedHalf:
    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        return [UnderivedFactory()]  # E: List item 0 has incompatible type "UnderivedFactory"
"""


def list_expected(source):
    found = {}
    for number, line in enumerate(source.splitlines(), 1):
        _, mark, text = line.partition("  # E: ")
        if mark:
            found[number] = text
    return found


@pytest.mark.slow
def test_a_type_checker_finds_wrong_signatures_and_unknown_names(tmp_path):
    path = tmp_path / "greet.py"
    path.write_text(PLUGIN)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"]
    done = subprocess.run(
        [*command, "--cache-dir", ROOT / ".mypy_cache" / "of-tests", path],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},  # an editable install is no place where mypy looks
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert not done.stderr
    lines = re.findall(r"greet\.py:(\d+): error: (.*)", done.stdout)
    expected = list_expected(PLUGIN)
    assert sorted({int(number) for number, _ in lines}) == sorted(expected), done.stdout
    for number, text in expected.items():
        assert any(int(line) == number and text in message for line, message in lines), (text, done.stdout)


def test_every_method_has_its_place_in_the_order():
    assert {*CALLED_OUTERMOST_FIRST, *CALLED_INNERMOST_FIRST} == {*METHODS} - {"skips_request"}  # called for one alone


def test_the_order_that_the_class_promises_is_that_of_the_calls():
    text = " ".join(inspect.getdoc(Middleware).split())
    outermost, innermost = re.search(
        r"Order of calls: (.*?) are called outermost first, (.*?) innermost first\.", text
    ).groups()
    assert tuple(re.findall(r"`(\w+)`", outermost)) == CALLED_OUTERMOST_FIRST
    assert tuple(re.findall(r"`(\w+)`", innermost)) == CALLED_INNERMOST_FIRST


@pytest.mark.parametrize("path", ["docs/plugins.md", "docs/proxy-behaviour.md"])
def test_the_guide_repeats_no_order_and_links_to_the_class(path):
    text = (ROOT / path).read_text()
    written = re.sub(r"<!-- begin: (.*?) -->.*?<!-- end: \1 -->", "", text, flags=re.DOTALL)
    assert "(#middleware)" in written or "(plugins.md#middleware)" in written
    assert "innermost first" not in written


def test_the_base_alone_is_no_middleware():
    assert "none of the methods" in find_middleware_problem(Middleware())
    assert "none of the methods" in find_middleware_problem(type("Empty", (Middleware,), {})())


@pytest.mark.parametrize("name", METHODS)
def test_a_default_decides_nothing(name):
    arguments = [None] * (len(inspect.signature(getattr(Middleware, name)).parameters) - 1)
    expected = {"is_still_allowed": True, "skips_request": False, "judge_changed": False, "judge_copy": False}.get(name)
    assert getattr(Middleware(), name)(*arguments) is expected


def test_the_mark_of_an_override_leaves_the_method_as_it_is():
    def method():
        return 7

    assert override(method) is method
