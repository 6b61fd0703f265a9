"""The settings of the commands that show traffic: `maesh top` and `maesh tap`.

They are declared as all settings are (maesh_core/settings/__init__.py).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from maesh_core.settings import ApiClientSettings, ClusterSettings, LimitOrNone
from maesh_core.values.parsing import PositiveDuration


@dataclass(frozen=True, kw_only=True)
class TopSettings(ClusterSettings, ApiClientSettings):
    """Settings of `maesh top`."""

    endpoint: Annotated[
        str,
        Meta(description="Base URL of one controller; default: one of the cluster's, or the one on this machine."),
    ] = ""
    namespace: Annotated[str, Meta(description="Namespace of the mesh itself.")] = "maesh"
    once: Annotated[bool, Meta(description="Print one table and end, as without a terminal.")] = False
    json: Annotated[bool, Meta(description="Print one report as JSON and end.")] = False
    sort: Annotated[
        Literal["health", "service", "rate", "success", "p50", "p95", "p99", "retries", "limited", "denied"],
        Meta(description="Column to sort by, the largest or worst first; health: failing services first."),
    ] = "health"
    filter: Annotated[str, Meta(description="Show only services whose namespace/name:port contains this text.")] = ""
    interval: Annotated[
        PositiveDuration, Meta(description="Time between two reads of the controller, at least 100ms.")
    ] = 2.0


@dataclass(frozen=True, kw_only=True)
class TapSettings(ClusterSettings, ApiClientSettings):
    """Settings of `maesh tap`."""

    endpoint: Annotated[
        str,
        Meta(description="Base URL of one controller; default: those of the cluster, or the one on this machine."),
    ] = ""
    namespace: Annotated[str, Meta(description="Namespace of the mesh itself.")] = "maesh"
    method: Annotated[str, Meta(description="Show only requests with this method.")] = ""
    path: Annotated[
        str, Meta(description="Show only paths that begin with this text, or match it if it contains a *.")
    ] = ""
    status: Annotated[str, Meta(description="Show only these statuses, such as 404, 5xx, 500-599 or 404,5xx.")] = ""
    source: Annotated[
        str, Meta(description="Show only the requests of this client: an address, or the name of a pod or workload.")
    ] = ""
    limit: Annotated[LimitOrNone, Meta(description="End after this many records; 0: no limit.")] = 0
    json: Annotated[bool, Meta(description="Print one JSON object for each line.")] = False
