"""The API of a controller's pod in a cluster, with the user's own permissions.

An API in clear is asked through the API server's proxy, as kubectl does. A protected one answers 426 to that, and is
then asked by port-forward: the proxy of the API server removes the user's token, and does not verify the pod's
certificate, but a forwarded connection has TLS from this machine to the pod.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import msgspec

from maesh_core.controller.api.security.authentication import AUDIENCE
from maesh_core.controller.api_clients.direct_api import DirectApi, LineBatches
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.controller.kubernetes.port_forward import PortForward
from maesh_core.errors import (
    ApiRefusedError,
    ControllerLostError,
    ControllerUnreachableError,
    KubernetesError,
    MaeshError,
)

API_PORT: Final = 9000
TRUST_CONFIG_MAP: Final = "maesh-trust"
TRUST_KEY: Final = "bundle.pem"
VIEWER: Final = "maesh-viewer"
"""The service account whose token the commands use to read, unless the user names one."""
TOKEN_S: Final = 600
"""How long such a token is valid: the shortest time that the API server accepts."""
RENEWED_AT: Final = 0.8
"""The part of its life after which another one is used."""
TIMEOUT_S: Final = 5.0


class _ConfigMap(msgspec.Struct, frozen=True):
    data: dict[str, str] = {}


class _TokenStatus(msgspec.Struct, frozen=True):
    token: str


class _TokenRequest(msgspec.Struct, frozen=True):
    status: _TokenStatus


class ClusterSecrets:
    """Finds the secrets of one mesh, once they are needed. What the user names is used instead of the cluster's."""

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        *,
        context: ssl.SSLContext | None = None,
        fields: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._context = context
        self._fields = fields
        self._clock = clock
        self._made: dict[str, tuple[float, Mapping[str, str]]] = {}
        """When a token of each account was made, and the field with it."""

    def __repr__(self) -> str:
        return f"<ClusterSecrets of {self._namespace}>"

    @property
    def is_trust_named(self) -> bool:
        """Whether the user has named certificates: then nothing is asked in clear."""
        return self._context is not None

    async def find_context(self) -> ssl.SSLContext:
        """Find the certificates to trust. Raises MaeshError with what the user can do."""
        if self._context is None:
            self._context = await self._load_trust()
        return self._context

    async def find_fields(self, method: str, path: str) -> Mapping[str, str]:
        """Find a token that is valid now, as a field of a request. Raises MaeshError with what the user can do."""
        if self._fields:
            return self._fields
        account = choose_account(method, path)
        made_at, fields = self._made.get(account, (0.0, {}))
        if not fields or self._clock() - made_at > TOKEN_S * RENEWED_AT:
            fields = {"Authorization": f"Bearer {await self._request_token(account)}"}
            self._made[account] = (self._clock(), fields)
        return fields

    async def _load_trust(self) -> ssl.SSLContext:
        path = build_path("v1", "configmaps", namespace=self._namespace, name=TRUST_CONFIG_MAP)
        try:
            found = msgspec.json.decode(await self._client.get(path, timeout_s=TIMEOUT_S), type=_ConfigMap)
            bundle = found.data.get(TRUST_KEY, "")
            if not bundle:  # the system's certificates would be trusted
                raise ValueError("no certificates")
            return ssl.create_default_context(cadata=bundle)
        except KubernetesError as error:
            reason = str(error)
        except (msgspec.DecodeError, UnicodeDecodeError, ssl.SSLError, ValueError):
            reason = f"it has no certificates in {TRUST_KEY}"
        text = f"the ConfigMap {TRUST_CONFIG_MAP} with the mesh's authority cannot be used: {reason}"
        raise MaeshError(f"{text}; --root-ca-controller FILE names the certificates to trust")

    async def _request_token(self, account: str) -> str:
        """Get a token for this API only. The user's own token is never sent unless a file with it is named."""
        path = build_path("v1", "serviceaccounts", namespace=self._namespace, name=account, subresource="token")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_S},
        }
        try:
            answer = await self._client.send("POST", path, body, timeout_s=TIMEOUT_S)
            return msgspec.json.decode(answer, type=_TokenRequest).status.token
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MaeshError("the API server's answer has no token") from error
        except KubernetesError as error:
            text = f"no token for the controller's API can be made: {error}"
            raise MaeshError(
                f"{text}; it needs the service account {account} and the permission to create serviceaccounts/token"
                " of it, or --controller-token FILE"
            ) from error


def choose_account(method: str, path: str) -> str:
    """Choose the service account whose token a command uses: another one to change something below `/NAME/`."""
    return VIEWER if method == "GET" else f"maesh-{path.split('/')[1]}-admin"


def judge(error: KubernetesError) -> MaeshError:
    """Return the error of a request through the API server's proxy: whether the pod was reached.

    Only an error of the API server itself has a reason; it knows no pod of that name, or cannot connect to it.
    """
    is_own = bool(error.reason)
    is_missing = error.status == HTTPStatus.NOT_FOUND or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return ControllerUnreachableError(str(error)) if not error.status or (is_own and is_missing) else error


class PodApi:
    """The API of one pod; close `stack` when done."""

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        pod: str,
        *,
        secrets: ClusterSecrets,
        stack: AsyncExitStack,
        timeout_s: float,
    ) -> None:
        self.name = pod
        self._client = client
        self._namespace = namespace
        self._secrets = secrets
        self._stack = stack
        self._timeout_s = timeout_s
        self._is_protected = secrets.is_trust_named
        self._opening = asyncio.Lock()
        self._forward: PortForward | None = None
        self._direct: DirectApi | None = None
        path = build_path("v1", "pods", namespace=namespace, name=f"{pod}:{API_PORT}", subresource="proxy")
        self._base = path.replace("%3A", ":")

    def __repr__(self) -> str:
        return f"<PodApi {self.name} {'forwarded' if self._direct else 'through the API server'}>"

    async def fetch(self, path: str) -> bytes:
        """Fetch a path and return the body; raises MaeshError."""
        if not self._is_protected:
            try:
                return await self._client.get(self._base + path, timeout_s=self._timeout_s)
            except KubernetesError as error:
                if not await self._find_protection(error):
                    raise judge(error) from error
                self._is_protected = True
        return await self._ask(lambda api: api.fetch(path))

    async def post(self, path: str, body: bytes) -> bytes:
        """Send a POST request with a JSON document; raises MaeshError. It is only sent to a protected API."""
        return await self._ask(lambda api: api.post(path, body))

    async def follow(self, path: str, query: Mapping[str, str], *, silence_limit_s: float) -> LineBatches:
        """Yield the lines of a stream in batches, the first one empty; ends with the stream. Raises MaeshError."""
        if not self._is_protected:
            try:
                async for lines in self._client.watch_lines(self._base + path, query, silence_limit_s=silence_limit_s):
                    yield lines
                return
            except KubernetesError as error:
                if not await self._find_protection(error):
                    raise judge(error) from error
                self._is_protected = True
        direct = await self._open_direct()
        try:
            async for lines in direct.follow(path, query, silence_limit_s=silence_limit_s):
                yield lines
        except MaeshError as error:
            raise self._explain(error) from error

    async def _find_protection(self, error: KubernetesError) -> bool:
        """Whether the API is protected: it says so, or the user may only forward ports, and there is an authority."""
        if error.status != HTTPStatus.FORBIDDEN:
            return error.status == HTTPStatus.UPGRADE_REQUIRED
        try:
            await self._secrets.find_context()
        except MaeshError:
            return False
        return True

    async def _ask(self, send: Any) -> bytes:
        direct = await self._open_direct()
        try:
            answer: bytes = await send(direct)
        except MaeshError as error:
            raise self._explain(error) from error
        return answer

    def _explain(self, error: MaeshError) -> MaeshError:
        """Return the reason of the API server, if it is why there is no connection."""
        failure = None if self._forward is None else self._forward.failure
        if failure is None or isinstance(error, ApiRefusedError):
            return error
        if failure.status == HTTPStatus.FORBIDDEN:
            return MaeshError(f"{failure}; the permission to create pods/portforward is missing")
        for type_ in (ControllerUnreachableError, ControllerLostError):
            if isinstance(error, type_):
                return type_(str(failure))
        return MaeshError(str(failure))

    async def _open_direct(self) -> DirectApi:
        """Open one forward and one session, whatever the number of requests that wait for them."""
        async with self._opening:
            if self._direct is None:
                self._direct = await self._open()
            return self._direct

    async def _open(self) -> DirectApi:
        context = await self._secrets.find_context()
        forward = PortForward(self._client, self._namespace, self.name, API_PORT)
        self._forward = await self._stack.enter_async_context(forward)
        session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            )
        )
        return DirectApi(
            session,
            f"https://127.0.0.1:{forward.port}",
            name=self.name,
            server_name=f"maesh-controller.{self._namespace}.svc",
            find_fields=self._secrets.find_fields,
        )
