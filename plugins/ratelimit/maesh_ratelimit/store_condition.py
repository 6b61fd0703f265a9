"""Says which proxies do not reach the store of limits, so that operators know that limits hold for each node only."""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from maesh_core.plugin import MeshCondition, ServiceNode
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.settings import REDIS_STORE
from maesh_ratelimit.store_page import Reports, gather_stores
from maesh_ratelimit.store_report import ProxyStores

_TITLE: Final = "the proxies reach the store of rate limits"
_HINT: Final = (
    "Look at Redis, and at ratelimit.redis-url and the files of the password and certificates on the named proxies."
    " Until then each node limits by its share."
)


class Controller(Reports, Protocol):
    """The part of `ControllerNode` that is used."""

    def list_services(self) -> Sequence[ServiceNode]: ...  # noqa: D102


class StoreCondition:
    """Implements `ConditionChecker`; asks no proxy unless a setting or a service names the store."""

    def __init__(self, controller: Controller, settings: RateLimitSettings) -> None:
        self._controller = controller
        self._settings = settings

    def __repr__(self) -> str:
        return f"<StoreCondition {self._settings.store}>"

    async def check_conditions(self) -> Sequence[MeshCondition]:
        """Ask all proxies for the states of their stores."""
        is_set = self._settings.store == REDIS_STORE or self._settings.redis_url
        if not is_set and not any(map(_names_store, self._controller.list_services())):
            return ()
        document = await gather_stores(self._controller)
        problems = [text for proxy in document.proxies for text in _list_problems(proxy)]
        if not document.complete and not problems:
            problems.append("not all proxies could be asked")
        found = [_describe(document.proxies)]
        return [MeshCondition(id="limit-stores", title=_TITLE, hint=_HINT, problems=problems, found=found)]


def _names_store(service: ServiceNode) -> bool:
    """Whether an annotation of a service may name the store; the address of Redis is a setting of proxies only."""
    return any("ratelimit-" in name and REDIS_STORE in value for name, value in service.annotations.items())


def _list_problems(proxy: ProxyStores) -> Iterator[str]:
    """Describe what is wrong in a proxy: once for all of its workers."""
    if proxy.error:
        yield f"{proxy.name} could not be asked: {proxy.error}"
    states = (state for worker in proxy.workers for state in worker.stores if state.state == "away")
    for text in dict.fromkeys(f"{state.server or state.store} is away: {state.reason}" for state in states):
        yield f"{proxy.name}: {text}"


def _describe(proxies: Sequence[ProxyStores]) -> str:
    states = [{state.state for worker in proxy.workers for state in worker.stores} for proxy in proxies]
    connected = sum("connected" in each for each in states)
    return f"{connected} of {len(proxies)} {'proxy' if len(proxies) == 1 else 'proxies'} connected, the others unused"
