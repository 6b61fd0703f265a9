"""Finds the API server and the credentials for it: from a kubeconfig, or from the service account of the pod.

Takes the two flags and the environment; returns an `Access`, or raises StartupError. kubernetes-asyncio is used only to
read a pod's account and for the `auth-provider` of old kubeconfigs, because its model classes cost milliseconds per
object. It is imported only then: half a second and 60 MB.
"""

import asyncio
import base64
import os
import ssl
import tempfile
import time
import traceback
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from maesh_core.controller.kubernetes.exec_plugin import Status, run_plugin
from maesh_core.controller.kubernetes.kubeconfig import Cluster, Login, User, find_files, load_login
from maesh_core.controller.kubernetes.proxies import find_proxy
from maesh_core.errors import KubernetesError, StartupError

RELOAD_S = 60.0
"""Credentials are reloaded at this interval: others renew tokens in files, and plugins know their own expiry."""
LOAD_LIMIT_S = 30.0
"""Time-out of a credential plugin."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The address of the API server and the credentials for it. `server` is a URL without a final slash.

    `impersonation` are the headers that name the impersonated user; a header may be repeated.
    """

    server: str
    headers: Mapping[str, str] = {}
    impersonation: tuple[tuple[str, str], ...] = ()
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None


class Credentials:
    """Loads the access, and reloads it when it is old or was refused."""

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
        """Return the access, at most a minute old. Raises KubernetesError if it cannot be loaded."""
        async with self._lock:
            if self._access is None:
                await self._reload()
            elif self._clock() - self._loaded_at > RELOAD_S:
                self._loaded_at = self._clock()
                with suppress(
                    KubernetesError
                ):  # an access that the server has not refused may be used for another minute
                    await self._reload()
            assert self._access is not None  # noqa: S101 - for the type checker
            return self._access

    async def renew(self, refused: Access) -> Access:
        """Return a new access in place of a refused one. Raises KubernetesError."""
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
    """Find the cluster to use; None if there is none.

    `kubeconfig` (a path, or several as in the variable) takes precedence over the pod's own account, that over
    `KUBECONFIG`, and that over `~/.kube/config`. `master_url` replaces the server's address in any of them, or is used
    alone, without login. Raises StartupError if a named kubeconfig does not exist.
    """
    in_cluster = bool(environment.get("KUBERNETES_SERVICE_HOST"))
    if not kubeconfig and in_cluster:
        return Credentials(lambda: _load_pod_account(master_url, environment))
    default = Path(environment.get("HOME", "/")) / ".kube" / "config"
    paths = kubeconfig or environment.get("KUBECONFIG", "") or (str(default) if default.exists() else "")
    if paths:
        find_files(paths)
        return Credentials(lambda: _load_kubeconfig(paths, master_url, environment))
    return Credentials(lambda: _load_nothing(master_url, environment)) if master_url else None


async def _load_nothing(master_url: str, environment: Mapping[str, str]) -> Access:
    return await _log_in(Login(Cluster(), User()), master_url, environment)


async def _load_pod_account(master_url: str, environment: Mapping[str, str]) -> Access:
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import ConfigException
    from kubernetes_asyncio.config.incluster_config import load_incluster_config

    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration, environ=environment)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, ValueError) as error:
        raise StartupError(f"the pod's service account cannot be used: {_flatten(error)}") from error
    server = _check_server(str(configuration.host), master_url)
    return Access(
        server=server,
        headers={"Authorization": configuration.api_key["BearerToken"].strip()},
        tls=_build_tls(Cluster(certificate_authority=configuration.ssl_ca_cert), User()),
        proxy=find_proxy(server, None, environment),
    )


async def _load_kubeconfig(paths: str, master_url: str, environment: Mapping[str, str]) -> Access:
    login = load_login(paths)
    try:
        return await _log_in(login, master_url, environment)
    except StartupError as error:
        raise StartupError(f"kubeconfig {paths} cannot be used: {error}") from error


async def _log_in(login: Login, master_url: str, environment: Mapping[str, str]) -> Access:
    cluster, user = login.cluster, login.user
    if not cluster.server and not master_url:
        raise StartupError("its cluster names no server")
    server = _check_server(cluster.server or "", master_url)
    authorization = ""
    if user.auth_provider:
        authorization = await _ask_provider(user.auth_provider)
    elif token := _read_token(user):
        authorization = f"Bearer {token}"
    elif user.username:
        pair = f"{user.username}:{user.password or ''}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif user.exec is not None:
        status = await run_plugin(user.exec, cluster, environment, authority=_read_authority(cluster))
        authorization = f"Bearer {status.token.strip()}" if status.token else ""
        user = _add_certificate(user, status)
    return Access(
        server=server,
        headers={"Authorization": authorization} if authorization else {},
        impersonation=_build_impersonation(user),
        tls=_build_tls(cluster, user) if server.startswith("https://") else None,
        server_hostname=cluster.tls_server_name or None,
        proxy=find_proxy(server, cluster.proxy_url, environment),
    )


def _check_server(server: str, master_url: str) -> str:
    server = (master_url or server).rstrip("/")
    if not server.startswith(("http://", "https://")):
        origin = "--master-url" if master_url else "the cluster's server"
        raise StartupError(f"{origin}: {server!r} is not an http or https address")
    return server


def _build_impersonation(user: User) -> tuple[tuple[str, str], ...]:
    """Build the headers that impersonate a user (Kubernetes, User impersonation)."""
    named = (("Impersonate-User", user.impersonated_user), ("Impersonate-Uid", user.impersonated_uid))
    extra = user.impersonated_extra or {}
    return (
        *((name, value) for name, value in named if value),
        *(("Impersonate-Group", group) for group in user.impersonated_groups or ()),
        *((f"Impersonate-Extra-{quote(key, safe='')}", value) for key in extra for value in extra[key] or ()),
    )


def _read_token(user: User) -> str:
    """Read the token. As in client-go, that of the file counts while the file can be read."""
    if user.token_file:
        try:
            if token := Path(user.token_file).read_text().strip():
                return token
        except (OSError, ValueError) as error:
            if not user.token:
                raise StartupError(f"the token cannot be read: {_flatten(error)}") from error
    return (user.token or "").strip()


async def _ask_provider(provider: dict[str, Any]) -> str:
    """Get the token of an `auth-provider`, which kubectl has replaced by credential plugins except for OIDC."""
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import load_kube_config_from_dict

    document = {
        "current-context": "only",
        "contexts": [{"name": "only", "context": {"cluster": "only", "user": "only"}}],
        "clusters": [{"name": "only", "cluster": {"server": "http://only"}}],
        "users": [{"name": "only", "user": {"auth-provider": provider}}],
    }
    configuration = Configuration()
    try:
        await load_kube_config_from_dict(document, client_configuration=configuration)
    except Exception as error:  # the loader raises KeyError, AssertionError and others for unexpected input
        raise StartupError(f"auth-provider: {type(error).__name__}: {_flatten(error)}") from error
    return str(configuration.api_key.get("BearerToken") or "").strip()


def _add_certificate(user: User, status: Status) -> User:
    if not status.client_certificate_data or not status.client_key_data:
        return user
    certificate, key = (
        base64.b64encode(text.encode()).decode() for text in (status.client_certificate_data, status.client_key_data)
    )
    return msgspec.structs.replace(user, client_certificate_data=certificate, client_key_data=key)


def _read_authority(cluster: Cluster) -> bytes | None:
    """Read the certificates of the certificate authority, in PEM. Raises StartupError."""
    try:
        return _read(cluster.certificate_authority_data, cluster.certificate_authority)
    except (OSError, ValueError) as error:
        raise StartupError(f"the certificates for the API server cannot be used: {_flatten(error)}") from error


def _read(data: str | None, path: str | None) -> bytes | None:
    """Read a value that a kubeconfig has as base64 or in a file; the former counts."""
    if data:
        return base64.b64decode("".join(data.split()), validate=True)
    return Path(path).read_bytes() if path else None


def _build_tls(cluster: Cluster, user: User) -> ssl.SSLContext:
    authority = _read_authority(cluster)
    try:
        context = ssl.create_default_context(cadata=authority.decode("ascii", "ignore") if authority else None)
        # Python 3.13 enables this flag, which refuses certificate authorities that kubectl accepts, such as those
        # without a key identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        certificate = _read(user.client_certificate_data, user.client_certificate)
        if certificate:
            _load_certificate(context, certificate, _read(user.client_key_data, user.client_key))
    except (OSError, ValueError) as error:
        raise StartupError(f"the certificates for the API server cannot be used: {_flatten(error)}") from error
    if cluster.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes | None) -> None:
    """Load a certificate through a private temporary file, because Python accepts no bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + (key or b""))
        file.flush()
        # without a password, OpenSSL would ask on the terminal for that of an encrypted key, and wait
        context.load_cert_chain(file.name, password="")


def _kill_plugin(error: TimeoutError) -> None:
    """Kill a credential plugin that hangs: the library leaves it running when cancelled, and does not expose it."""
    interruption = error.__cause__
    for frame, _ in traceback.walk_tb(interruption.__traceback__ if interruption else None):
        for value in frame.f_locals.values():
            if isinstance(value, Process) and value.returncode is None:
                with suppress(ProcessLookupError):
                    value.kill()


def _flatten(error: Exception) -> str:
    """Render an error's text as one line."""
    return " ".join(str(error).split()) or type(error).__name__
