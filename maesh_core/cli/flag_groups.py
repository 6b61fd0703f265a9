"""The groups of flags in help texts and in the documentation, and their order.

Takes the fields of a settings class and returns them by title, frequently used ones first. GroupedCommand prints the
help of a command with these titles. Does not know what a flag does.
"""

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

from maesh_core.settings.fields import SettingField

MAIN = "Options"
PLUGINS = "Plugins"
GENERAL = "Logging and settings"

_GROUPS = {
    MAIN: (
        *("endpoint", "bind", "http_port", "tcp_port", "api_host", "api_port", "admin_host", "admin_port"),
        *("workers", "recursive", "once", "json", "sort", "filter", "interval", "node", "configuration_cache"),
        *("cluster", "wait", "format", "fail_on", "ignore_codes", "junit"),
        *("prometheus", "dry_run", "method", "path", "status", "source", "limit", "local_port"),
    ),
    "API": (
        *("api_hosts", "api_cert", "api_key", "api_tokens", "api_open", "api_clear"),
        *("admin_open", "admin_clear", "root_ca_controller", "controller_token"),
    ),
    "Cluster": ("kubeconfig", "master_url", "cluster_domain"),
    "Services": ("default_mode", "watch_namespaces", "ignore_namespaces", "namespace"),
    "Entrypoints": (
        *("limit_http_port", "limit_tcp_port", "port_mapping"),
        *("default_entrypoint", "own_http_port", "limit_own_http_port"),
    ),
    "Limits and time-outs": (
        *("connect_timeout", "response_timeout", "head_timeout", "body_timeout", "idle_timeout"),
        *("upstream_body_timeout", "upstream_idle_timeout", "tunnel_timeout", "drain_timeout"),
        *("head_limit", "target_limit", "field_limit", "body_limit", "connection_limit"),
        *("client_connection_limit", "request_limit", "half_closed_clients"),
        *("http2", "http2_stream_limit", "http2_reset_limit", "http2_control_limit"),
    ),
    "Requests": ("client_header", "forwarded_headers", "drop_shadowing_headers", "unregistered_methods"),
    "Metrics": ("metrics_exact_codes", "metrics_client_limit", "metrics_fine_durations"),
    "Servers": ("passive_health", "server_pause", "server_pause_limit", "root_ca", "insecure_skip_verify"),
    GENERAL: ("log_level", "log_format"),
}


def group_fields(fields: Iterable[SettingField]) -> dict[str, list[SettingField]]:
    """Sort fields into their groups; empty groups are omitted. Raises KeyError for a field without a group."""
    places = {name: (title, place) for title, names in _GROUPS.items() for place, name in enumerate(names)}
    grouped: dict[str, list[SettingField]] = {title: [] for title in _GROUPS}
    for field in sorted(fields, key=lambda field: places[field.name][1]):
        grouped[places[field.name][0]].append(field)
    return {title: found for title, found in grouped.items() if found}


class _Grouped:
    """Shows flags by group. The group is the help panel of the option."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, in the order in which their first options were declared."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = getattr(parameter, "rich_help_panel", None) or MAIN
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class GroupedCommand(_Grouped, TyperCommand):
    """A command whose help shows its flags by group."""


class GroupedGroup(_Grouped, TyperGroup):
    """A command that also has subcommands; its help shows its flags by group."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the flags, and then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)
