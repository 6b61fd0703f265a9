"""Runs credential plugins of kubeconfigs: commands that print a token or a client certificate.

Takes the plugin's entry in the kubeconfig; returns what it printed, or raises StartupError. The protocol is that of
client.authentication.k8s.io (client-go, plugin/pkg/client/auth/exec). Cancelling a run kills the command.
"""

import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from maesh_core.controller.kubernetes.kubeconfig import EXEC_EXTENSION, Cluster, ExecPlugin
from maesh_core.errors import StartupError
from maesh_core.process.starting import start_process

INFORMATION = "KUBERNETES_EXEC_INFO"
"""The environment variable with the input of a plugin."""
_MODES = ("Never", "IfAvailable", "Always")


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """The output of a plugin: a token, a certificate with its key (PEM), or both."""

    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    status: Status


async def run_plugin(
    plugin: ExecPlugin,
    cluster: Cluster,
    environment: Mapping[str, str],
    *,
    authority: bytes | None = None,
    has_terminal: bool | None = None,
) -> Status:
    """Run a plugin to its end. `authority` is the cluster's, in PEM, for plugins that need their cluster.

    `has_terminal` says whether a person can answer on standard input; None: detect it.
    """
    is_terminal = sys.stdin is not None and sys.stdin.isatty() if has_terminal is None else has_terminal
    is_interactive = _choose_interactive(plugin, has_terminal=is_terminal)
    variables = {each.name: each.value or "" for each in plugin.env or ()}
    question = _build_question(plugin, cluster, authority, is_interactive=is_interactive)
    process = await _start(plugin, {**environment, **variables, INFORMATION: question}, is_interactive=is_interactive)
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    if process.returncode:
        reason = " ".join((errors or b"").decode(errors="replace").split())
        raise _fail(plugin, f"ended with status {process.returncode}{f': {reason}' if reason else ''}")
    return _parse_answer(plugin, output)


def _choose_interactive(plugin: ExecPlugin, *, has_terminal: bool) -> bool:
    mode = plugin.interactive_mode or "IfAvailable"
    if mode not in _MODES:
        raise _fail(plugin, f"has the interactiveMode {mode!r}, which is not one of {', '.join(_MODES)}")
    if mode == "Always" and not has_terminal:
        raise _fail(plugin, "needs a terminal (interactiveMode: Always), and standard input is not a terminal")
    return has_terminal and mode != "Never"


def _build_question(plugin: ExecPlugin, cluster: Cluster, authority: bytes | None, *, is_interactive: bool) -> str:
    spec: dict[str, Any] = {"interactive": is_interactive}
    if plugin.provide_cluster_info:
        extensions = {each.name: each.extension for each in cluster.extensions or ()}
        fields = {
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
            "certificate-authority-data": authority,
            "proxy-url": cluster.proxy_url,
            "config": extensions.get(EXEC_EXTENSION),
        }
        spec["cluster"] = {name: value for name, value in fields.items() if value}
    question = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return msgspec.json.encode(question).decode()


async def _start(plugin: ExecPlugin, environment: Mapping[str, str], *, is_interactive: bool) -> Process:
    """Start the command; its standard error is visible if a person can answer, otherwise kept for the error's text."""
    path = plugin.command if "/" in plugin.command else _find_in_path(plugin, environment)
    try:
        return await start_process(
            path,
            *(plugin.args or ()),
            env=dict(environment),
            stdin=None if is_interactive else DEVNULL,
            stdout=PIPE,
            stderr=None if is_interactive else PIPE,
        )
    except FileNotFoundError as error:
        raise _miss(plugin) from error
    except (OSError, ValueError) as error:
        raise _fail(plugin, f"cannot be run: {getattr(error, 'strerror', None) or error}") from error


def _find_in_path(plugin: ExecPlugin, environment: Mapping[str, str]) -> str:
    path = shutil.which(plugin.command, path=environment.get("PATH", os.defpath))
    if path is None:
        raise _miss(plugin)
    return path


def _parse_answer(plugin: ExecPlugin, output: bytes) -> Status:
    try:
        answer = msgspec.json.decode(output, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _fail(plugin, f"did not print an ExecCredential: {error}") from error
    if (answer.kind, answer.api_version) != ("ExecCredential", plugin.api_version):
        printed = f"{answer.api_version} {answer.kind}"
        raise _fail(plugin, f"printed {printed!r} instead of a {plugin.api_version} ExecCredential")
    status = answer.status
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise _fail(plugin, "printed a certificate without its key, or a key without its certificate")
    if not status.token and not status.client_certificate_data:
        raise _fail(plugin, "printed neither a token nor a certificate")
    return status


def _miss(plugin: ExecPlugin) -> StartupError:
    hint = " ".join((plugin.install_hint or "").split())
    return _fail(plugin, f"is not installed{f': {hint}' if hint else ''}")


def _fail(plugin: ExecPlugin, text: str) -> StartupError:
    return StartupError(f"the credential plugin {plugin.command} {text}")
