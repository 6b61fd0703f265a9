"""Tokens of service accounts, as TokenRequest issues them: for audiences, for a time, and bound to a pod.

Takes requests and the store; returns tokens and their owners, or raises StatusError. The texts have the form of a JWT,
but only the server that issued them knows what they are worth.
"""

import base64
import secrets
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from maesh_testing.kubernetes.resources import PODS, SERVICE_ACCOUNTS
from maesh_testing.kubernetes.statuses import (
    Cause,
    StatusError,
    refuse_conflict,
    refuse_invalid,
    refuse_missing,
    refuse_request,
)
from maesh_testing.kubernetes.store import Object, Store

API_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
"""The audience of the server itself, which tokens have that ask for none."""
LEEWAY_S = 60.0
"""A token of a pod that ends is valid for so long after the pod should have been gone."""
SHORTEST_S = 600
DEFAULT_S = 3600
_NODES = ("", "nodes")


class User(NamedTuple):
    """Who sends a request. `audiences` are those that his token is for."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, list[str]] = {}
    audiences: tuple[str, ...] = (API_AUDIENCE,)


class _Token(NamedTuple):
    namespace: str
    account: str
    account_uid: str
    audiences: tuple[str, ...]
    expires_at: float
    number: str
    pod: str = ""
    pod_uid: str = ""


class AccountTokens:
    """The tokens that one server has issued."""

    def __init__(self, store: Store, *, names_nodes: bool = True) -> None:
        self.names_nodes = names_nodes
        """Whether `extra` has the pod's node, as since Kubernetes 1.30."""
        self._store = store
        self._tokens: dict[str, _Token] = {}

    def __repr__(self) -> str:
        return f"<AccountTokens {len(self._tokens)} issued>"

    def issue(self, namespace: str, account: str, spec: Mapping[str, Any]) -> Object:
        """Issue a token as a TokenRequest asks for it; return the request with its status. Raises StatusError."""
        resource = self._store.resources[SERVICE_ACCOUNTS]
        found = self._store.find(resource, namespace, account)
        if found is None:
            raise refuse_missing(resource, account)
        duration_s = spec.get("expirationSeconds") or DEFAULT_S
        if duration_s < SHORTEST_S:
            text = f"Invalid value: {duration_s}: may not specify a duration less than 10 minutes"
            cause = Cause("FieldValueInvalid", "spec.expirationSeconds", text)
            raise refuse_invalid(resource, "", [cause])
        pod, pod_uid = self._find_pod(namespace, account, spec.get("boundObjectRef"))
        audiences = tuple(spec.get("audiences") or [API_AUDIENCE])
        expires_at = time.time() + duration_s
        token = _Token(
            namespace, account, found["metadata"]["uid"], audiences, expires_at, secrets.token_hex(16), pod, pod_uid
        )
        text = _render(token)
        self._tokens[text] = token
        expiration = datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": account, "namespace": namespace, "creationTimestamp": None},
            "spec": {
                "audiences": list(audiences),
                "expirationSeconds": duration_s,
                "boundObjectRef": spec.get("boundObjectRef"),
            },
            "status": {"token": text, "expirationTimestamp": expiration},
        }

    def expire(self, text: str) -> None:
        """Let a token be one that has expired."""
        if token := self._tokens.get(text):
            self._tokens[text] = token._replace(expires_at=time.time() - 1)

    def find(self, text: str, audiences: Iterable[str]) -> User | str:
        """Find the owner of a token that is for one of the audiences, otherwise say why there is none."""
        token = self._tokens.get(text)
        if token is None:
            return "invalid bearer token"
        wanted = tuple(each for each in audiences if each in token.audiences)
        if not wanted:
            asked, found = (" ".join(map(repr, each)) for each in (audiences, token.audiences))
            return f"invalid bearer token, token audiences [{found}] is invalid for the target audiences [{asked}]"
        if token.expires_at <= time.time():
            return "invalid bearer token, service account token has expired"
        account = self._store.find(self._store.resources[SERVICE_ACCOUNTS], token.namespace, token.account)
        if account is None or account["metadata"]["uid"] != token.account_uid:
            return "invalid bearer token, service account token has been invalidated"
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={token.number}"]}
        if token.pod:
            pod = self._store.find(self._store.resources[PODS], token.namespace, token.pod)
            if pod is None or pod["metadata"]["uid"] != token.pod_uid or _is_over(pod):
                return "invalid bearer token, service account token has been invalidated"
            extra |= self._describe_pod(pod)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{token.namespace}", "system:authenticated")
        return User(
            f"system:serviceaccount:{token.namespace}:{token.account}", token.account_uid, groups, extra, wanted
        )

    def _find_pod(self, namespace: str, account: str, bound: Mapping[str, Any] | None) -> tuple[str, str]:
        if not bound:
            return "", ""
        if bound.get("kind") != "Pod":
            raise refuse_request(f"cannot bind token to object of type {bound.get('kind')}")
        resource, name = self._store.resources[PODS], bound.get("name", "")
        pod = self._store.find(resource, namespace, name)
        if pod is None:
            raise refuse_missing(resource, name)
        if (pod.get("spec") or {}).get("serviceAccountName", "default") != account:
            text = (
                f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
            )
            raise StatusError(400, "BadRequest", text)
        uid: str = pod["metadata"]["uid"]
        if bound.get("uid", uid) != uid:
            text = (
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise refuse_conflict(resource, name, text)
        return name, uid

    def _describe_pod(self, pod: Object) -> dict[str, list[str]]:
        prefix = "authentication.kubernetes.io"
        extra = {
            f"{prefix}/pod-name": [pod["metadata"]["name"]],
            f"{prefix}/pod-uid": [pod["metadata"]["uid"]],
        }
        node = (pod.get("spec") or {}).get("nodeName")
        if node and self.names_nodes:
            extra[f"{prefix}/node-name"] = [node]
            if found := self._store.find(self._store.resources[_NODES], "", node):
                extra[f"{prefix}/node-uid"] = [found["metadata"]["uid"]]
        return extra


def _is_over(pod: Object) -> bool:
    text = pod["metadata"].get("deletionTimestamp")
    return text is not None and datetime.fromisoformat(text).timestamp() + LEEWAY_S < time.time()


def _render(token: _Token) -> str:
    """Render a text like a JWT, with claims that a client could read."""
    claims = {
        "aud": token.audiences,
        "exp": int(token.expires_at),
        "iss": API_AUDIENCE,
        "jti": token.number,
        "sub": f"system:serviceaccount:{token.namespace}:{token.account}",
        "kubernetes.io": {
            "namespace": token.namespace,
            "serviceaccount": {"name": token.account, "uid": token.account_uid},
            **({"pod": {"name": token.pod, "uid": token.pod_uid}} if token.pod else {}),
        },
    }
    parts = [
        msgspec.json.encode({"alg": "RS256", "kid": "test"}),
        msgspec.json.encode(claims),
        secrets.token_bytes(256),
    ]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
