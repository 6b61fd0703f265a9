"""The owner of a token, as the API server knows it: an account, and the pod that the token is bound to."""

from collections.abc import Mapping
from typing import Final

import msgspec

POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
NODE_NAME: Final = "authentication.kubernetes.io/node-name"
"""Keys of `extra` for a token that is bound to a pod; the node's since Kubernetes 1.30."""


class TokenIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of a token. `audiences` are those of the review for which the token is valid; there is at least one."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = {}
    audiences: tuple[str, ...] = ()

    @property
    def pod_name(self) -> str:
        """The pod that the token is bound to; empty if it is bound to none."""
        return self._get_single(POD_NAME)

    @property
    def pod_uid(self) -> str:
        """The UID of this pod."""
        return self._get_single(POD_UID)

    @property
    def node_name(self) -> str:
        """The node of this pod; empty if the API server does not report it."""
        return self._get_single(NODE_NAME)

    def _get_single(self, key: str) -> str:
        values = self.extra.get(key, ())
        return values[0] if len(values) == 1 else ""
