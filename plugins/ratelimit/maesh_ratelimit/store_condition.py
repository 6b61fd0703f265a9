"""Says which proxies do not reach the store of limits, so that operators know that limits hold for each node only."""

from collections.abc import Iterator, Sequence
from typing import Final

from maesh_core.plugin import MeshCondition
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.store_page import Reports, gather_stores
from maesh_ratelimit.store_report import ProxyStores

_TITLE: Final = "the proxies reach the store of rate limits"
_HINT: Final = (
    "Look at Redis, and at ratelimit.redis-url and the files of the password and certificates on the named proxies."
    " Until then each node limits by its share."
)


class StoreCondition:
    """Implements `ConditionChecker`; asks no proxy unless a store is set."""

    def __init__(self, reports: Reports, settings: RateLimitSettings) -> None:
        self._reports = reports
        self._settings = settings

    def __repr__(self) -> str:
        return f"<StoreCondition {self._settings.store}>"

    async def check_conditions(self) -> Sequence[MeshCondition]:
        """Ask all proxies for the states of their stores."""
        if self._settings.store != "redis" and not self._settings.redis_url:
            return ()
        document = await gather_stores(self._reports)
        problems = [text for proxy in document.proxies for text in _list_problems(proxy)]
        if not document.complete and not problems:
            problems.append("not all proxies could be asked")
        found = [_describe(document.proxies)]
        return [MeshCondition(id="limit-stores", title=_TITLE, hint=_HINT, problems=problems, found=found)]


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
