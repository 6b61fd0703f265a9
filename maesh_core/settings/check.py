"""The settings of `maesh check`.

They are declared as all settings are (maesh_core/settings/__init__.py).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from maesh_core.settings import ApiClientSettings, ClusterSettings, LogLevel, ManifestSettings
from maesh_core.settings.fields import SOURCE_NAME
from maesh_core.values.parsing import Duration


@dataclass(frozen=True, kw_only=True)
class CheckSettings(ManifestSettings, ClusterSettings, ApiClientSettings):
    """Settings of `maesh check`."""

    log_level: Annotated[LogLevel, Meta(description="Lowest level of log lines to write.")] = "error"
    paths: tuple[str, ...] = ()
    cluster: Annotated[
        bool, Meta(description="Check the mesh that runs in a cluster or at --endpoint, and not manifests.")
    ] = False
    wait: Annotated[
        Duration, Meta(description="With --cluster: repeat the checks until none fails, at most for this time.")
    ] = 0.0
    endpoint: Annotated[
        str,
        Meta(description="Base URL of one controller; default: those of the cluster, or the one on this machine."),
    ] = ""
    cluster_domain: Annotated[str, Meta(description="DNS domain of the cluster.")] = "cluster.local"
    format: Annotated[
        Literal["text", "json", "sarif", "github"],
        Meta(
            description="Output: text, one JSON document, SARIF 2.1.0 for code scanning, or annotations for GitHub"
            " Actions."
        ),
    ] = "text"
    json: Annotated[bool, Meta(description="Print JSON, as --format json.")] = False
    fail_on: Annotated[
        Literal["error", "warning", "notice"],
        Meta(
            description="Lowest severity of a finding that makes the exit status 3.",
            extra={SOURCE_NAME: "check_fail_on"},  # diff has other values
        ),
    ] = "error"
    ignore_codes: Annotated[
        tuple[str, ...], Meta(description="Codes of findings to leave out, such as MSH213; separated by commas.")
    ] = ()
