"""Settings of middlewares become objects: decoded by the factory that owns the kind, kept while settings stay.

Takes the middlewares of one protocol's section; gives, for each key, the object or why there is none. An object is
built again only when its kind or settings change, so that its state survives every other change.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from maesh_core.model.configuration import Middleware
from maesh_core.plugin_system.hookspecs import MiddlewareFactory
from maesh_core.plugin_system.middleware import Middleware as BuiltMiddleware
from maesh_core.proxy.middleware.checks import find_middleware_problem


class CompiledMiddleware(msgspec.Struct, frozen=True):
    """One middleware: `instance` is what its factory built, None when `failure` says why there is none.

    `failure` may be read by clients; `detail` adds what only those who run the mesh should read, such as the text of an
    exception.
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
    """Build what is wanted from what there is; also name what differs now. `keys` are those to look at, None for all.

    Never raises: what a factory does not take is told as a failure of that middleware alone.
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
        instance = factory.build_middleware(settings, key.removesuffix(f"/{wanted.kind}"))
        problem = find_middleware_problem(instance)
    except msgspec.ValidationError as error:
        return _build_failure(wanted, "does not take its settings", str(error))
    except Exception as error:  # a plugin's code: it harms the routers that use it, not the proxy
        return _build_failure(wanted, "could not be built", f"{type(error).__name__}: {error}")
    if problem is not None:
        return _build_failure(wanted, "could not be built", f"{type(instance).__qualname__} {problem}")
    return CompiledMiddleware(wanted.kind, wanted.settings, instance)


def _build_failure(wanted: Middleware, text: str, detail: str = "") -> CompiledMiddleware:
    return CompiledMiddleware(wanted.kind, wanted.settings, None, f"middleware {wanted.kind} {text}", detail)
