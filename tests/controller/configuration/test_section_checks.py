"""Sections that a traffic type must not return, because a proxy would refuse them or admit everybody."""

import pytest

from maesh_core.controller.configuration.section_checks import check_guarded, check_section
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import HttpRouter, Middleware, Part, Section, Service
from maesh_core.model.keys import ObjectKey

WEB = ObjectKey("shop", "web")
PORT = "shop/web:80"
GUARD = "shop/web/acl"


def build(chain: tuple[str, ...] = (), **changes: object) -> Section:
    router = HttpRouter(entrypoint=1, hosts=("web",), service=PORT, middlewares=chain)
    parts = {"routers": {PORT: router}, "services": {PORT: Service()}, "middlewares": {}} | changes
    return Section(**parts)  # type: ignore[arg-type]


def test_a_section_with_all_that_it_refers_to_passes() -> None:
    check_section(WEB, build((GUARD,), middlewares={GUARD: Middleware(kind="acl")}))


@pytest.mark.parametrize(
    ("section", "missing"),
    [
        (build(services={PORT: Service(), "shop/other:80": Service()}), "key 'shop/other:80'"),
        (build(services={}), "without its service"),
        (build((GUARD,)), "without one of its middlewares"),
        (build(services={PORT: Service(parts=(Part(service="shop/web:80/a", weight=1),))}), "without one of its parts"),
    ],
)
def test_foreign_keys_and_missing_references_are_refused(section: Section, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        check_section(WEB, section)


def test_each_chain_needs_the_guards_unless_the_router_is_closed() -> None:
    check_guarded(build((GUARD,)), [GUARD])
    check_guarded(build(routers={PORT: HttpRouter(entrypoint=1, hosts=("web",))}), [GUARD])
    with pytest.raises(ConfigurationError, match="without the middleware"):
        check_guarded(build(), [GUARD])
    parted = Service(parts=(Part(service=PORT, weight=1, middlewares=("shop/web/retry",)),))
    with pytest.raises(ConfigurationError, match="without the middleware"):
        check_guarded(build((GUARD,), services={PORT: parted}), [GUARD])
