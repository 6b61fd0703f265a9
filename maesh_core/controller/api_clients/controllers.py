"""Finds the controllers of a mesh and sends requests to their APIs, for the commands that show them.

Takes the address of one controller, or what names a cluster; returns functions that fetch a path, or objects that can
also follow a stream. In a cluster the requests go through the API server, with the user's own permissions. Raises
StartupError if no controller can be found.
"""

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec

from maesh_core.controller.api_clients.direct_api import LOST as LOST
from maesh_core.controller.api_clients.direct_api import DirectApi, LineBatches
from maesh_core.controller.api_clients.pod_api import ClusterSecrets, PodApi
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import ControllerUnreachableError, KubernetesError, MaeshError, SettingsError, StartupError
from maesh_core.plain_http.bearer_token import is_private, read_token
from maesh_core.settings import ApiClientSettings

Fetch = Callable[[str], Awaitable[bytes]]
"""Fetches a path of one controller's API and returns the body; raises MaeshError."""
Controllers = Sequence[tuple[str, Fetch]]
"""Controllers by name, or by address."""


class ApiAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach an API at an endpoint: a file with the only certificates to trust, and one with a token."""

    root_ca: str = ""
    token_file: str = ""

    @classmethod
    def from_settings(cls, settings: ApiClientSettings) -> "ApiAccess":
        """Take what the settings of a command name."""
        return cls(root_ca=settings.root_ca_controller, token_file=settings.controller_token)

    def build_context(self) -> ssl.SSLContext | None:
        """Build the TLS context; None for the default. Raises SettingsError."""
        if not self.root_ca:
            return None
        try:
            return ssl.create_default_context(cafile=self.root_ca)
        except OSError as error:  # includes ssl.SSLError
            reason = "it contains no certificates" if isinstance(error, ssl.SSLError) else error.strerror
            raise SettingsError(f"cannot read {self.root_ca} (--root-ca-controller): {reason}") from error

    def build_fields(self, endpoint: str) -> dict[str, str]:
        """Build the fields of requests to an endpoint. Raises SettingsError."""
        if not self.token_file:
            return {}
        parts = urlsplit(endpoint)
        if not is_private(parts.scheme, parts.hostname or ""):
            raise SettingsError(f"--controller-token needs an https endpoint: {endpoint} would get the token in clear")
        return self._build_token_fields()

    def build_secrets(self, client: KubernetesClient, namespace: str) -> ClusterSecrets:
        """Build what finds the secrets of a cluster's mesh. Raises SettingsError."""
        fields = self._build_token_fields() if self.token_file else None
        return ClusterSecrets(client, namespace, context=self.build_context(), fields=fields)

    def _build_token_fields(self) -> dict[str, str]:
        try:
            return {"Authorization": f"Bearer {read_token(self.token_file)}"}
        except ValueError as error:
            raise SettingsError(f"{error} (--controller-token)") from error


class ControllerApi(Protocol):
    """The API of one controller."""

    name: str
    """Its pod, or its address."""

    async def fetch(self, path: str) -> bytes:
        """Fetch a path and return the body; raises MaeshError."""

    async def post(self, path: str, body: bytes) -> bytes:
        """Send a POST request with a JSON document, and return the body of the response; raises MaeshError."""

    def follow(self, path: str, query: Mapping[str, str], *, silence_limit_s: float) -> LineBatches:
        """Yield the lines of a stream in batches, the first one empty; ends with the stream. Raises MaeshError."""


LOCAL_ENDPOINT = "http://127.0.0.1:9000"
"""The default address of the controller of `maesh up`."""
TIMEOUT_S = 5.0
"""Time-out of a request, unless the caller sets another one."""
LABELS = "app=maesh,component=controller"
"""Labels of the controllers' pods, as the chart sets them."""
ENDED_PHASES = ("Succeeded", "Failed")
"""Phases of pods that were evicted, whose objects remain."""

_URL = re.compile(r"https?://[^/\s]")


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""


class _PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    status: _PodStatus = _PodStatus()


class _Pods(msgspec.Struct, frozen=True):
    items: list[_Pod] | None = None


@asynccontextmanager
async def open_controllers(
    endpoint: str,
    *,
    kubeconfig: str,
    master_url: str,
    namespace: str,
    access: ApiAccess | None = None,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[Controllers]:
    """Open the controllers as `open_apis` does, with the function that fetches a path of each."""
    async with open_apis(
        endpoint,
        kubeconfig=kubeconfig,
        master_url=master_url,
        namespace=namespace,
        access=access,
        timeout_s=timeout_s,
    ) as apis:
        yield [(api.name, api.fetch) for api in apis]


@asynccontextmanager
async def open_apis(
    endpoint: str,
    *,
    kubeconfig: str,
    master_url: str,
    namespace: str,
    access: ApiAccess | None = None,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[Sequence[ControllerApi]]:
    """Open the controller at `endpoint`, otherwise those of the cluster, otherwise the one on this machine.

    In a cluster, `access` replaces what the cluster has for a protected API: its certificates, and a token.
    Raises SettingsError and StartupError.
    """
    if endpoint and not _URL.match(endpoint):
        raise SettingsError(f"--endpoint: {endpoint!r} is not the URL of a controller such as {LOCAL_ENDPOINT}")
    credentials = None if endpoint else find_access(kubeconfig, master_url)
    if credentials is None:
        base = (endpoint or LOCAL_ENDPOINT).rstrip("/").removesuffix("/api/configuration/current")
        async with _open_session(base, access or ApiAccess(), timeout_s) as session:
            yield [DirectApi(session, base)]
        return
    client = KubernetesClient(credentials)
    secrets = (access or ApiAccess()).build_secrets(client, namespace)
    try:
        async with AsyncExitStack() as stack:
            names = await _find_controllers(client, namespace)
            yield [PodApi(client, namespace, name, secrets=secrets, stack=stack, timeout_s=timeout_s) for name in names]
    finally:
        await client.close()


def advise(error: MaeshError, endpoint: str) -> str:
    """Return the error's text; if no controller was found without --endpoint, with the flags that find others."""
    is_lost = isinstance(error, ControllerUnreachableError) and not endpoint
    return f"{error}; --endpoint names another controller, --kubeconfig a cluster" if is_lost else str(error)


def _open_session(base: str, access: ApiAccess, timeout_s: float) -> aiohttp.ClientSession:
    fields, context = access.build_fields(base), access.build_context()
    return aiohttp.ClientSession(
        connector=None if context is None else aiohttp.TCPConnector(ssl=context),
        headers=fields,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
    )


async def _find_controllers(client: KubernetesClient, namespace: str) -> list[str]:
    path = build_path("v1", "pods", namespace=namespace)
    try:
        body = await client.get(path, {"labelSelector": LABELS}, timeout_s=TIMEOUT_S)
        pods: Any = msgspec.json.decode(body, type=_Pods)
    except (KubernetesError, msgspec.DecodeError) as error:
        text = f"the controllers' pods cannot be listed: {error}; --endpoint {LOCAL_ENDPOINT} queries maesh up instead"
        raise StartupError(text) from error
    names = sorted(pod.metadata.name for pod in pods.items or () if pod.status.phase not in ENDED_PHASES)
    if not names:
        raise StartupError(
            f"no pod in namespace {namespace} is labelled {LABELS}; --namespace names another namespace; "
            f"--endpoint {LOCAL_ENDPOINT} queries maesh up instead"
        )
    return names
