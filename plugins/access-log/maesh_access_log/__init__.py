"""An access log for Maesh: one line about each request, tunnel, connection and session that has ended.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from typing import Annotated, Literal

import msgspec

from maesh_access_log.statuses import parse_statuses
from maesh_access_log.templates import check_format, check_headers, shows_field
from maesh_core.plugin import Duration, Plugin

__all__ = ["PLUGIN", "AccessLogSettings", "ServiceAccessLog"]


class AccessLogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set access-log.KEY=VALUE`."""

    format: str = "common"
    """`common`, `json`, or a template with fields such as `%{RequestPath}`."""

    file: str = ""
    """The file to append to; standard output if it is empty."""

    services: Literal["all", "annotated"] = "all"
    """Whether a service without the annotation `access-log` is logged."""

    status: tuple[str, ...] = ()
    """Log records with these statuses: `400-599`, `200`."""

    min_duration: Duration = 0.0
    """Log records that took at least this long."""

    errors_only: bool = False
    """Log records of errors."""

    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """The fraction of the records to log that no filter selects: by default all without a filter, none with one."""

    headers: tuple[str, ...] = ()
    """Request headers that format `json` adds."""

    client_pods: bool = True
    """Whether formats with the field `ClientPod` name the pods of clients; the controller then sends all names."""

    @property
    def shows_pods(self) -> bool:
        """Whether the names of pods are needed."""
        return self.client_pods and shows_field(self.format, "ClientPod")

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot be used."""
        check_format(self.format)
        parse_statuses(self.status)
        check_headers(self.headers)
        if self.headers and self.format != "json":
            raise ValueError("headers: only format json adds headers; a template has %{request_NAME}")
        if "\0" in self.file:
            raise ValueError("file: a path cannot contain NUL")


class ServiceAccessLog(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The annotation of one service, as it travels from controller to proxy."""

    is_logged: bool


PLUGIN = Plugin(
    hook_api_version=1,
    settings=AccessLogSettings,
    controller="maesh_access_log.controller:ControllerHalf",
    proxy="maesh_access_log.hooks:ProxyHalf",
)
