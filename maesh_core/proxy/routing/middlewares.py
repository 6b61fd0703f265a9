"""Builds middlewares from their settings, which the factory of their kind decodes.

Takes the middlewares of one protocol's section; returns the built object or the failure of each. An object is rebuilt
only when its kind or settings change, so that its state survives all other changes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from maesh_core.model.configuration import Middleware
from maesh_core.model.keys import find_scope
from maesh_core.plugin_system.hookspecs import MiddlewareFactory
from maesh_core.plugin_system.middleware import Middleware as BuiltMiddleware
from maesh_core.proxy.middleware.checks import find_middleware_problem


class CompiledMiddleware(msgspec.Struct, frozen=True):
    """One middleware: `instance` is what its factory built, or None with the reason in `failure`.

    Clients may read `failure`; `detail` is for operators only, for example the text of an exception.
    """

    kind: str
    settings: Mapping[str, Any]
    instance: BuiltMiddleware | None
    failure: str | None = None
    detail: str = ""


def compile_middlewares(
    wanted: Mapping[str, Middleware],
    factories: Mapping[str, MiddlewareFactory],
    *,
    current: Mapping[str, CompiledMiddleware],
    keys: Iterable[str] | None,
) -> tuple[dict[str, CompiledMiddleware], set[str]]:
    """Build the `wanted` middlewares, reusing `current` ones; return them and the changed keys.

    `keys` are those to check, None for all. Never raises: an error of a factory becomes the failure of that middleware.
    """
    compiled = {} if keys is None else dict(current)
    changed = set()
    for key in wanted.keys() | current.keys() if keys is None else keys:
        before = current.get(key)
        after = _compile_middleware(key, wanted.get(key), factories, before=before)
        if after is None:
            compiled.pop(key, None)
        else:
            compiled[key] = after
        if after is not before:
            changed.add(key)
    return compiled, changed


def _compile_middleware(
    key: str,
    wanted: Middleware | None,
    factories: Mapping[str, MiddlewareFactory],
    *,
    before: CompiledMiddleware | None,
) -> CompiledMiddleware | None:
    if wanted is None:
        return None
    if before is not None and before.kind == wanted.kind and before.settings == wanted.settings:
        return before
    factory = factories.get(wanted.kind)
    if factory is None:
        return _build_failure(wanted, "is not loaded by this proxy")
    try:
        settings = msgspec.convert(wanted.settings, factory.settings_type)
        instance = factory.build_middleware(settings, find_scope(key))
        problem = find_middleware_problem(instance)
    except msgspec.ValidationError as error:
        return _build_failure(wanted, "has invalid settings", str(error))
    except Exception as error:  # an error of a plugin affects only the routers that use it
        return _build_failure(wanted, "could not be built", f"{type(error).__name__}: {error}")
    if problem is not None:
        return _build_failure(wanted, "could not be built", f"{type(instance).__qualname__} {problem}")
    return CompiledMiddleware(wanted.kind, wanted.settings, instance)


def _build_failure(wanted: Middleware, text: str, detail: str = "") -> CompiledMiddleware:
    return CompiledMiddleware(wanted.kind, wanted.settings, None, f"middleware {wanted.kind} {text}", detail)
