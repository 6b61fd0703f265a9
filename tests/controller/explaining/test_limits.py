"""The middlewares of a chain are described by their builders, or else by what is known of them."""

from maesh_core.controller.explaining.limits import SETTINGS_LIMIT_CHARACTERS, describe_middlewares, describe_settings
from maesh_core.model.configuration import Middleware


class Describing:
    def describe(self, settings):
        return [f"at most {settings['average']} requests"]


class Failing:
    def describe(self, settings):
        raise ValueError("no average")


MIDDLEWARES = {
    "a": Middleware(kind="ratelimit", settings={"average": 5}),
    "b": Middleware(kind="retry", settings={"b": 1, "a": 2}),
}


def describe(builders, reasons=None, middlewares=MIDDLEWARES):
    return list(describe_middlewares(middlewares, middlewares, builders, reasons or {}))


def test_a_builder_describes_its_settings():
    assert describe({"ratelimit": Describing()}, {"b": ["up to 2 attempts"], "a": ["not used"]}) == [
        "ratelimit: at most 5 requests",
        "retry: up to 2 attempts",
    ]


def test_settings_are_shown_if_nothing_describes_them():
    assert describe({"ratelimit": Failing()}) == ['ratelimit: {"average":5}', 'retry: {"a":2,"b":1}']


def test_long_settings_are_cut():
    (line,) = describe({}, middlewares={"a": Middleware(kind="x", settings={"t": "y" * 1000})})
    assert line.endswith(" more characters")
    assert len(line) < SETTINGS_LIMIT_CHARACTERS + 50


def test_a_builder_without_a_description_has_none():
    assert describe_settings(object(), {}) is None
    assert describe_settings(None, {}) is None
