"""What happens before each signature: the store is read, and the node and the life of its certificate are checked.

Takes a store and what reads it; returns its content. It is read each time, so that no controller signs by a phase of a
rotation that is over, or for a node that was revoked. How long certificates live is recorded there, because a rotation
may have to wait until they have ended; and which authority signs, so that another one is not used before all nodes
trust it.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from maesh_core.plugin import ConfigurationError
from maesh_mtls.controller.authority.effective import adopt, is_adopted
from maesh_mtls.controller.authority.state import parse_state, render_state
from maesh_mtls.controller.authority.stores import (
    AuthorityStore,
    StoreConflictError,
    Stored,
    StoreError,
    StoreReadOnlyError,
)

ATTEMPTS: Final = 5
"""How often something is recorded while other controllers change the store at the same time."""


class NodeRevokedError(Exception):
    """The node gets no certificate until its revocation is undone."""


Load = Callable[[], Awaitable[Stored]]
"""Reads the store. Raises StoreError."""


async def prepare_signing(store: AuthorityStore, load: Load, node: str, lifetime_s: float, now: float) -> Stored:
    """Return the content of the store, by which a certificate of a node with this life may be signed now.

    Raises NodeRevokedError and StoreError.
    """
    for _ in range(ATTEMPTS):
        stored = await load()
        try:
            state = parse_state(stored.rotation)
            if state.is_revoked(node):
                raise NodeRevokedError("the node is revoked")
            if is_adopted(stored) and state.longest_s >= lifetime_s:
                return stored
            files = {} if is_adopted(stored) else adopt(stored, datetime.fromtimestamp(now, UTC))
        except ConfigurationError as error:
            raise StoreError(str(error)) from error
        recorded = msgspec.structs.replace(state, longest_s=max(state.longest_s, lifetime_s))
        try:
            await store.write(files, render_state(recorded), version=stored.version)
        except StoreConflictError:
            continue
        except StoreReadOnlyError:
            return stored  # the controllers rotate nothing then
        # what was written may already be changed again, so it is read once more
    raise StoreConflictError("the authority is being changed; try again")
