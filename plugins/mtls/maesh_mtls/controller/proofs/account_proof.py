"""Proves which node a request comes from, by the token that the kubelet projects into the proxy's pod.

The API server says whose token it is and to which pod it is bound; the controller knows on which node this pod is. So a
token of another audience, account, pod or node proves nothing, and neither does one of a node or a pod that is gone.
What cannot be checked is refused.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from maesh_core.plugin import ClusterApi, ControllerNode, KubernetesError, ObjectKey, Pod, TokenIdentity
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.proofs.node_tokens import LONGEST_TOKEN, NodeTokens, Proof, ProofRefusedError
from maesh_mtls.controller.proofs.request_limits import BadTokens
from maesh_mtls.controller.proofs.token_claims import may_be_valid

AUDIENCE: Final = "maesh-ca"
"""The audience of the tokens, so that no other token of an account is accepted, nor these elsewhere."""
WAITING_S: Final = 2.0
"""A pod that this controller does not know yet is waited for this long: its watch may be behind."""
LOOK_S: Final = 0.1
NODE_TIMEOUT_S: Final = 5.0
_NOT_FOUND = 404
_ENDED = frozenset({"Succeeded", "Failed"})


class ProxyTokens:
    """Tokens of the proxies' service account, and the nodes of the pods that they are bound to."""

    __slots__ = ("_account", "_controller", "_pause")

    def __init__(
        self,
        controller: ControllerNode,
        account: ObjectKey,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._controller = controller
        self._account = account
        self._pause = pause

    def __repr__(self) -> str:
        return f"<ProxyTokens {self._account}>"

    async def find_node(self, identity: TokenIdentity) -> str:
        """Find the node of a proxy by the owner of its token. Raises ProofRefusedError."""
        if not self._is_proxy(identity):
            raise ProofRefusedError(403, "account", "the token is not one of the proxies' service account")
        if not identity.pod_name or not identity.pod_uid:
            raise ProofRefusedError(403, "unbound", "the token is not bound to a pod")
        pod = await self._find_pod(identity)
        node: str = pod.spec.node_name
        if identity.node_name not in ("", node):
            raise ProofRefusedError(403, "node", "the token's pod is on another node")
        if pod.status.phase in _ENDED:
            raise ProofRefusedError(403, "pod", "the token's pod has ended")
        return node

    async def find_node_or_none(self, identity: TokenIdentity) -> str | None:
        """Find the node of a proxy; None if its token proves none. Raises KubernetesError if that is not known yet."""
        if not self._is_proxy(identity):
            return None
        try:
            return await self.find_node(identity)
        except ProofRefusedError as error:
            if error.status == 503:
                raise KubernetesError(str(error)) from error
            return None

    def _is_proxy(self, identity: TokenIdentity) -> bool:
        return identity.username == f"system:serviceaccount:{self._account.namespace}:{self._account.name}"

    async def _find_pod(self, identity: TokenIdentity) -> Pod:
        """Find the pod that the token is bound to, and not another one of the same name."""
        key = ObjectKey(self._account.namespace, identity.pod_name)
        for _ in range(round(WAITING_S / LOOK_S)):
            pod = self._controller.find_pod(key)
            if pod is not None and pod.metadata.uid == identity.pod_uid and pod.spec.node_name:
                return pod
            await self._pause(LOOK_S)
        if self._controller.find_pod(key) is None:
            raise ProofRefusedError(503, "pod-unknown", "the token's pod is not known to this controller yet")
        raise ProofRefusedError(403, "pod", "the token belongs to a former pod of this name")


class AccountProof:
    """Proves nodes by tokens of their proxies. Implements `Proof`."""

    __slots__ = ("_api", "_bad", "_now", "_tokens")

    def __init__(
        self,
        api: ClusterApi,
        tokens: ProxyTokens,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._tokens = tokens
        self._now = now
        self._bad = BadTokens(clock)

    def __repr__(self) -> str:
        return f"<AccountProof {self._tokens!r}>"

    async def check(self, token: str, node: str, source: str = "") -> None:
        """Return if the token is that of a proxy on the node. Raises ProofRefusedError."""
        if await self._tokens.find_node(await self._identify(token, source)) != node:
            raise ProofRefusedError(403, "node", "the token's pod is on another node")
        await self._check_node(node)

    async def _identify(self, token: str, source: str) -> TokenIdentity:
        if len(token) > LONGEST_TOKEN or not may_be_valid(token, AUDIENCE, self._now()):
            raise ProofRefusedError(401, "token", f"the token is unknown, has expired, or is not for {AUDIENCE}")
        if self._bad.is_over(source):
            raise ProofRefusedError(429, "busy", "too many invalid tokens; try again in a minute")
        try:
            identity = await self._api.review_token(token, [AUDIENCE], source=source)
        except KubernetesError as error:
            raise ProofRefusedError(503, "api-server", f"the token cannot be checked: {error}") from error
        if identity is None:
            self._bad.note(source)
            raise ProofRefusedError(401, "token", f"the token is unknown, has expired, or is not for {AUDIENCE}")
        return identity

    async def _check_node(self, node: str) -> None:
        """Refuse a node that was deleted: its pods may be known for another while."""
        try:
            await self._api.send("GET", f"/api/v1/nodes/{node}", timeout_s=NODE_TIMEOUT_S)
        except KubernetesError as error:
            if error.status == _NOT_FOUND:
                raise ProofRefusedError(403, "node-deleted", "the node does not exist any more") from error
            raise ProofRefusedError(503, "api-server", f"the node cannot be checked: {error}") from error


class ProofChain:
    """Several proofs, of which one is enough. Implements `Proof`."""

    __slots__ = ("_proofs",)

    def __init__(self, *proofs: Proof) -> None:
        self._proofs = proofs

    def __repr__(self) -> str:
        return f"<ProofChain {self._proofs}>"

    async def check(self, token: str, node: str, source: str = "") -> None:
        """Return if the token proves the node by one of them; the next one is asked about an unknown token.

        Raises ProofRefusedError: 503 if one could not decide.
        """
        refusals = []
        for proof in self._proofs:
            try:
                await proof.check(token, node, source)
            except ProofRefusedError as error:
                if error.status not in (401, 503):
                    raise
                refusals.append(error)
            else:
                return
        raise max(refusals, key=lambda error: error.status)


def build_proof(controller: ControllerNode, settings: MtlsSettings) -> Proof | None:
    """Build what nodes prove themselves by: a file of tokens, their accounts in a cluster, or both.

    None if neither is there. Raises ConfigurationError.
    """
    proofs: list[Proof] = []
    if settings.tokens:
        tokens = NodeTokens(Path(settings.tokens))
        tokens.load()
        proofs.append(tokens)
    if controller.cluster is not None:
        proofs.append(AccountProof(controller.cluster, build_proxy_tokens(controller, settings)))
    return ProofChain(*proofs) if len(proofs) > 1 else next(iter(proofs), None)


def build_proxy_tokens(controller: ControllerNode, settings: MtlsSettings) -> ProxyTokens:
    """Build what finds the node of a proxy's token of Kubernetes."""
    namespace, _, name = settings.proxy_account.rpartition("/")
    return ProxyTokens(controller, ObjectKey(namespace or controller.settings.namespace, name))
