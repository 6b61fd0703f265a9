"""Checks that an object is a valid middleware: a misspelt method would never be called, which could allow all access.

Takes the object that a factory built, and returns its problem. Runs when a middleware is built, never per request.
"""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from types import FunctionType, MethodType
from typing import Any

from maesh_core.plugin_system.hook_results import find_signature_problem
from maesh_core.plugin_system.interfaces import Response
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.middleware.chain import find_method

METHODS = tuple(name for name, value in vars(Middleware).items() if inspect.isfunction(value) and name[0] != "_")
"""The methods of `maesh_core.plugin.Middleware`."""
HTTP_METHODS = (
    "choose_backend",
    "choose_request_changes",
    "choose_response_changes",
    "on_request",
    "on_request_body",
    "on_attempt",
    "on_attempt_failed",
    "on_response",
    "on_response_body",
    "on_finished",
)
"""The methods that an HTTP exchange calls. `is_still_allowed` alone is not enough: it is only called after
`on_request`."""
STREAM_METHODS = ("on_connect",)
"""The methods that decide whether a connection or session may start."""

_RESERVED = "on_"
_AWAITED = "on_request"
_SIMILARITY = 0.85
"""The similarity above which an unknown name counts as misspelt (difflib's ratio)."""
_METHODS_BY_PLAIN_NAME = {name.replace("_", ""): name for name in METHODS}


def find_middleware_problem(middleware: object) -> str | None:
    """Return why an object is not a valid middleware, as a text that follows its kind; None if it is valid."""
    for name in _list_names(middleware):
        if name.startswith(_RESERVED) and name not in METHODS:
            return f"has {name}, which is not a method of middlewares{_suggest(name)}"
    given = {name: method for name in METHODS if (method := find_method(middleware, name)) is not None}
    for name, method in given.items():
        if not callable(method):
            return f"has {name}, which is not callable but {type(method).__name__}"
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            return f"has {name}, which is a generator"
        if name != _AWAITED and inspect.iscoroutinefunction(method):
            return f"has {name}, which is async; only {_AWAITED} may be async"
        if (problem := _find_call_problem(name, method)) is not None:
            return f"has {name}, which {problem}"
    for name in _list_names(middleware):
        if (intended := _find_intended(name)) is not None and callable(getattr(middleware, name, None)):
            return f"has {name}, which is not a method of middlewares; did you mean {intended}?"
    if not given:
        return f"has none of the methods of a middleware: {', '.join(METHODS)}"
    return _find_value_problem(middleware)


def has_any(middleware: object, names: tuple[str, ...]) -> bool:
    """Return whether a middleware has any of these methods; one that it does not override does not count."""
    return any(find_method(middleware, name) is not None for name in names)


def _find_call_problem(name: str, method: Callable[..., Any]) -> str | None:
    function = getattr(method, "__func__", None)
    if isinstance(method, MethodType) and isinstance(function, FunctionType):
        return _find_function_problem(name, function)
    return find_signature_problem(method, getattr(Middleware, name))


@lru_cache(maxsize=256)
def _find_function_problem(name: str, function: FunctionType) -> str | None:
    """Check a function once, however many services use the middleware: reading a signature takes 20 microseconds."""
    return find_signature_problem(MethodType(function, object()), getattr(Middleware, name))


def _find_value_problem(middleware: Any) -> str | None:
    kept = getattr(middleware, "kept_bytes", None)
    if kept is not None and (not isinstance(kept, int) or isinstance(kept, bool) or kept < 0):
        return f"has kept_bytes, which is not a number of bytes: {kept!r}"
    response = getattr(middleware, "failure_response", None)
    if response is not None and not isinstance(response, Response):
        return f"has failure_response, which is not a Response but {type(response).__name__}"
    return None


def _list_names(middleware: object) -> list[str]:
    """Return the public names of an object and its class, sorted."""
    own = [name for name in getattr(middleware, "__dict__", ()) if isinstance(name, str) and name[:1] != "_"]
    class_: Any = type(middleware)  # mypy does not accept a type as hashable
    return sorted({*own, *_list_class_names(class_)})


@lru_cache(maxsize=256)
def _list_class_names(type_: Any) -> tuple[str, ...]:
    return tuple(name for name in dir(type_) if name[0] != "_")


def _suggest(name: str) -> str:
    found = get_close_matches(name, METHODS, n=1)
    return f"; did you mean {found[0]}?" if found else f"; the methods are: {', '.join(METHODS)}"


def _find_intended(name: str) -> str | None:
    """Return the method that a name probably means, such as `onRequest` or `is_stil_allowed`; None if there is none."""
    plain = name.replace("_", "").lower()
    if name in METHODS or not plain.startswith(("on", "is", "ju", "sk", "ch")):
        return None
    found = get_close_matches(plain, _METHODS_BY_PLAIN_NAME, n=1, cutoff=_SIMILARITY)
    return _METHODS_BY_PLAIN_NAME[found[0]] if found and found[0][:2] == plain[:2] else None
