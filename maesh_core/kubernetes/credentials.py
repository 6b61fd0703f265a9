"""Where the API server is, and who we are to it: a kubeconfig, or the account of the pod we run in.

Takes the two flags and the environment, gives an `Access`, or raises StartupError. kubernetes-asyncio reads the files
and runs the credential plugins; nothing else of it is used, its model classes cost milliseconds an object. It is
imported where a cluster is really spoken to: half a second and 60 MB.
"""

import asyncio
import os
import ssl
import time
import traceback
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from maesh_core.errors import KubernetesError, StartupError

if TYPE_CHECKING:
    from kubernetes_asyncio.client import Configuration

RELOAD_S = 60.0
"""Credentials are read again this often: tokens in files are renewed by others, and plugins know their own expiry."""
LOAD_LIMIT_S = 30.0
"""A credential plugin that takes longer has failed."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the API server. `server` is a URL without a final slash."""

    server: str
    headers: Mapping[str, str] = {}
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None


class Credentials:
    """Loads the access, and loads it again when it is old or was refused."""

    __slots__ = ("_access", "_clock", "_load", "_loaded_at", "_lock")

    def __init__(self, load: Callable[[], Awaitable[Access]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._access: Access | None = None
        self._loaded_at = 0.0
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Credentials {self._access.server if self._access else 'not loaded'}>"

    async def get(self) -> Access:
        """Give the access, loaded within the last minute. Raises KubernetesError when it cannot be had."""
        async with self._lock:
            if self._access is None:
                await self._reload()
            elif self._clock() - self._loaded_at > RELOAD_S:
                self._loaded_at = self._clock()
                with suppress(KubernetesError):  # what the server has not refused yet may go on for a minute
                    await self._reload()
            assert self._access is not None  # noqa: S101 - for the type checker
            return self._access

    async def renew(self, refused: Access) -> Access:
        """Give a fresh access in place of one that was refused. Raises KubernetesError."""
        async with self._lock:
            if self._access is refused:
                await self._reload()
            assert self._access is not None  # noqa: S101 - for the type checker
            return self._access

    async def _reload(self) -> None:
        try:
            async with asyncio.timeout(LOAD_LIMIT_S):
                fresh = await self._load()
        except TimeoutError as error:
            _kill_plugin(error)
            raise KubernetesError(f"the credentials could not be had within {LOAD_LIMIT_S:g} s") from error
        except StartupError as error:
            raise KubernetesError(str(error)) from error
        self._access = fresh
        self._loaded_at = self._clock()


def find_access(kubeconfig: str, master_url: str, environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """Find the cluster that is meant, None where there is none.

    `kubeconfig` (a path, or several as in the variable) beats the pod's own account, that beats `KUBECONFIG`, and that
    beats `~/.kube/config`; `master_url` replaces the server's address in any of them, or stands alone, without login.
    Raises StartupError when a kubeconfig is named that does not exist.
    """
    in_cluster = bool(environment.get("KUBERNETES_SERVICE_HOST"))
    if not kubeconfig and in_cluster:
        return Credentials(lambda: _load_pod_account(master_url, environment))
    default = Path(environment.get("HOME", "/")) / ".kube" / "config"
    paths = kubeconfig or environment.get("KUBECONFIG", "") or (str(default) if default.exists() else "")
    for path in filter(None, paths.split(os.pathsep)):
        if not os.path.exists(path):
            raise StartupError(f"kubeconfig {path}: no such file")
    if paths:
        return Credentials(lambda: _load_kubeconfig(paths, master_url))
    return Credentials(lambda: _load_nothing(master_url)) if master_url else None


async def _load_nothing(master_url: str) -> Access:
    from kubernetes_asyncio.client import Configuration

    return await _build_access(Configuration(), master_url)


async def _load_pod_account(master_url: str, environment: Mapping[str, str]) -> Access:
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import ConfigException
    from kubernetes_asyncio.config.incluster_config import load_incluster_config

    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration, environ=environment)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, ValueError) as error:
        raise StartupError(f"the pod's service account cannot be used: {_flatten(error)}") from error
    return await _build_access(configuration, master_url)


async def _load_kubeconfig(paths: str, master_url: str) -> Access:
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import ConfigException, load_kube_config
    from yaml import YAMLError

    configuration = Configuration(host="")
    try:
        await load_kube_config(config_file=paths, client_configuration=configuration, persist_config=False)
    except Exception as error:  # the loader lets KeyError, AssertionError and more out for what is no kubeconfig
        is_named = isinstance(error, ConfigException | OSError | ValueError | YAMLError)
        text = _flatten(error) if is_named else f"it is no kubeconfig ({type(error).__name__}: {_flatten(error)})"
        raise StartupError(f"kubeconfig {paths} cannot be used: {text}") from error
    if not configuration.host and not master_url:
        raise StartupError(f"kubeconfig {paths} cannot be used: its cluster names no server")
    return await _build_access(configuration, master_url)


async def _build_access(configuration: "Configuration", master_url: str) -> Access:
    server = (master_url or configuration.host or "").rstrip("/")
    if not server.startswith(("http://", "https://")):
        origin = "--master-url" if master_url else "the cluster's server"
        raise StartupError(f"{origin}: {server!r} is no http or https address")
    token = configuration.api_key.get("BearerToken")
    return Access(
        server=server,
        headers={"Authorization": token.strip()} if token else {},
        tls=_build_tls(configuration) if server.startswith("https://") else None,
        server_hostname=configuration.tls_server_name or None,
        proxy=configuration.proxy or None,
    )


def _build_tls(configuration: "Configuration") -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            # without a password OpenSSL would ask for that of an encrypted key on the terminal, and wait
            context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file, password="")
    except (OSError, ValueError) as error:
        raise StartupError(f"the certificates for the API server cannot be used: {_flatten(error)}") from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _kill_plugin(error: TimeoutError) -> None:
    """End a credential plugin that hangs: the library, cancelled, leaves it running and tells nobody which it is."""
    interruption = error.__cause__
    for frame, _ in traceback.walk_tb(interruption.__traceback__ if interruption else None):
        for value in frame.f_locals.values():
            if isinstance(value, Process) and value.returncode is None:
                with suppress(ProcessLookupError):
                    value.kill()


def _flatten(error: Exception) -> str:
    """Give an error's text in one line."""
    return " ".join(str(error).split()) or type(error).__name__
