"""The kinds of findings of `maesh check` about rate limits, and limits in Redis that cannot work as they are set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from maesh_core.plugin import (
    ConfigurationError,
    FindingKind,
    PolicyFinding,
    PolicyView,
    ServiceNode,
    select_annotations,
)
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.settings import REDIS_STORE, Limit, ServiceLimits

SERVICE = ("Service",)
_ANNOTATION = r"(?:port \S+: )?annotation \S*ratelimit-[a-z]+: ['\"].*"
"""An error of one of the plugin's annotations, which shows the value."""
WAIT_S: Final = 0.02
"""How long a worker may wait for Redis when the bucket of a client is empty (README, How exact this is)."""

NEEDS_SWITCH = FindingKind(
    code="MSH802",
    severity="error",
    title="a rate limit needs a plugin or a setting that is off, so its Service is closed",
    hint="enable it for controllers and proxies, and for this command, or use another source",
    patterns=(rf"{_ANNOTATION} has a source of plugin .*", rf"{_ANNOTATION} needs the accounts of clients: .*"),
    kinds=SERVICE,
)
INVALID_LIMIT = FindingKind(
    code="MSH801",
    severity="error",
    title="an annotation of a rate limit cannot be used, so the Service is closed",
    hint="correct it: a limit has an average or a burst, and sources that identify its clients",
    patterns=(_ANNOTATION,),
    kinds=SERVICE,
)
WITHOUT_SERVER = FindingKind(
    code="MSH803",
    severity="warning",
    title="a rate limit is in Redis, but the address of Redis is not set",
    hint="set ratelimit.redis-url for proxies and this command: proxies without it refuse the routes of the Service",
)
SMALL_BURST = FindingKind(
    code="MSH804",
    severity="notice",
    title="the burst of a rate limit in Redis is too small for its average, so fewer requests pass",
    hint="raise the burst to the requests of 20 ms at least: workers wait for Redis when a bucket is empty",
)


class Builder(Protocol):
    """What builds the limits of a service, or raises ConfigurationError."""

    annotations: tuple[str, ...]

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceLimits | None: ...  # noqa: D102


class LimitPolicyChecker:
    """Names the kinds of findings, and finds limits in Redis that cannot work."""

    finding_kinds: Sequence[FindingKind] = (NEEDS_SWITCH, INVALID_LIMIT, WITHOUT_SERVER, SMALL_BURST)

    def __init__(self, builder: Builder, settings: RateLimitSettings) -> None:
        self._builder = builder
        self._settings = settings

    def __repr__(self) -> str:
        return f"<LimitPolicyChecker {self._settings.store}>"

    def check(self, view: PolicyView) -> Iterable[PolicyFinding]:
        """Check the limits of all services; those with errors have been reported."""
        for node in view.nodes.values():
            limits = dict.fromkeys(limit for limit in self._list_limits(node) if limit.store == REDIS_STORE)
            for limit in limits:
                if not self._settings.redis_url:
                    text = f"limit {limit.name} is in Redis, but ratelimit.redis-url is not set"
                    yield PolicyFinding(code=WITHOUT_SERVER.code, key=node.key, text=text)
                least = limit.average / limit.period_s * WAIT_S
                if limit.burst < least:
                    text = f"limit {limit.name} has a burst of {limit.burst}, below the {least:.0f} requests of 20 ms"
                    yield PolicyFinding(code=SMALL_BURST.code, key=node.key, text=text)

    def _list_limits(self, node: ServiceNode) -> Iterator[Limit]:
        for port in node.ports:
            try:
                found = select_annotations(node.annotations, port)
                own = {name: found[name] for name in self._builder.annotations if name in found}
                settings = self._builder.build_settings(own, node)
            except ConfigurationError:
                continue
            yield from () if settings is None else settings.limits
