"""Whether what a plugin's hook returned has what the process will use of it.

Takes a hook's name and one object that an implementation returned; says what is missing or wrong by the interface that
hookspecs/ declares for the hook. Runs once, at start: a missing attribute is an error there, not when a service asks.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from maesh_core.plugin_system.hookspecs import OPTIONAL_INTERFACES, SPEC_FAMILIES


def find_result_problem(hook_name: str, result: object) -> str | None:
    """Return why an object is not what a hook must return, worded to follow its type; None if it is.

    Raises what the object's own attributes raise.
    """
    interface = find_interface(hook_name)
    if issubclass(interface, msgspec.Struct):
        return None if isinstance(result, interface) else f"is no {interface.__name__}"
    problem = _find_member_problem(result, interface)
    for optional in OPTIONAL_INTERFACES.get(interface, ()):
        problem = problem or _find_member_problem(result, optional, is_optional=True)
    return problem


def _find_member_problem(result: object, interface: type[Any], *, is_optional: bool = False) -> str | None:
    """Compare a result with the members that an interface declares itself; optional ones may be missing."""
    missing = object()
    for name, type_ in _list_attributes(interface).items():
        value = getattr(result, name, missing)
        if value is missing:
            if is_optional:
                continue
            return f"has no attribute {name}, which a {interface.__name__} needs"
        if (problem := _find_value_problem(value, type_)) is not None:
            return f"has an attribute {name} that is {problem}, not {_name_type(type_)}"
    for name, declared in vars(interface).items():
        if name.startswith("_") or not inspect.isfunction(declared):
            continue
        method = getattr(result, name, None)
        if method is None and is_optional:
            continue
        if is_optional and not callable(method):
            return f"has {name}, which cannot be called"
        if not callable(method):
            return f"has no method {name}, which a {interface.__name__} needs"
        if (problem := find_signature_problem(method, declared)) is not None:
            return f"has a method {name} that {problem}"
    return None


@cache
def find_interface(hook_name: str) -> type[Any]:
    """Find the interface of the objects that a hook returns, from its declaration."""
    hook = next(getattr(family, hook_name) for family in SPEC_FAMILIES if hasattr(family, hook_name))
    (interface,) = get_args(get_type_hints(hook)["return"])
    found: type[Any] = interface
    return found


def _list_attributes(interface: type[Any]) -> dict[str, Any]:
    """List the attributes that an interface declares, those included that are only read, which are properties there."""
    properties = {name: each.fget for name, each in vars(interface).items() if isinstance(each, property)}
    return {**get_type_hints(interface), **{name: get_type_hints(read)["return"] for name, read in properties.items()}}


def _find_value_problem(value: object, type_: Any) -> str | None:
    """Say what a value is, where it is not what an attribute of this type must be."""
    origin = get_origin(type_) or type_
    if type_ is str:
        is_right = isinstance(value, str) and bool(value)
    elif origin is tuple:
        is_right = isinstance(value, tuple | list | frozenset) and all(isinstance(each, str) for each in value)
    elif origin is type:
        is_right = value is not None and not isinstance(value, str | int)
    elif isinstance(type_, type) and issubclass(type_, IntEnum):
        is_right = value in list(type_)
    elif isinstance(type_, type) and (type_ in (bool, int) or issubclass(type_, msgspec.Struct)):
        is_right = isinstance(value, type_)
    else:
        is_right = value is not None
    return None if is_right else f"{value!r}"[:80]


def find_signature_problem(method: Callable[..., Any], declared: Callable[..., Any]) -> str | None:
    """Say why a bound method cannot be called as its interface declares it; what has no signature is not judged."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return None
    parameters = list(inspect.signature(declared).parameters.values())[1:]
    positional = [each.name for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    named = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    try:
        signature.bind(*positional, **dict.fromkeys(named))
    except TypeError:
        return f"takes {_render(signature.parameters)}, not {_render({each.name: each for each in parameters})}"
    return None


def _render(parameters: Mapping[str, inspect.Parameter]) -> str:
    bare: Sequence[inspect.Parameter] = [
        each.replace(annotation=inspect.Parameter.empty) for each in parameters.values()
    ]
    return str(inspect.Signature(bare))


def _name_type(type_: Any) -> str:
    if get_origin(type_) is tuple:
        return "a tuple of texts"
    if type_ in (str, int):
        return "a text" if type_ is str else "a whole number"
    return f"a {getattr(type_, '__name__', str(type_))}"
