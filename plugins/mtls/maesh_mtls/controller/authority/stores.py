"""Where the authority is kept: a folder, or a Secret of the cluster. Reads it, and changes it as a whole.

A store has files by name, such as `tls.crt` and `tls.key`, and the state of a rotation as a JSON text. A change states
the version that it is based on, and is refused if the store has another one, so two controllers never overwrite each
other. Nothing here checks what the files contain. Errors and representations never contain a file.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol

import msgspec

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
TRUSTED: Final = "ca.crt"
SIGNER_CERTIFICATE: Final = "signer.crt"
SIGNER_KEY: Final = "signer.key"
BUNDLE: Final = "trusted.pem"
FILES: Final = (CERTIFICATE, KEY, TRUSTED, SIGNER_CERTIFICATE, SIGNER_KEY, BUNDLE)
"""The files that are read. Of these, `tls.*` and `ca.crt` may be given; a rotation keeps the others."""
SECRET_FILES: Final = frozenset({KEY, SIGNER_KEY})
LIMIT_BYTES: Final = 1024 * 1024
"""The size of all files; that of a Secret is limited to the same."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What a store has. `version` differs after every change; it is empty if there is no store yet.

    `rotation` is the state of a rotation, empty if there is none.
    """

    files: Mapping[str, bytes] = {}
    rotation: str = ""
    version: str = ""

    def __repr__(self) -> str:
        return f"<Stored {', '.join(sorted(self.files))} version={self.version}>"


class StoreError(Exception):
    """The store cannot be read or changed. The text is one line."""


class StoreConflictError(StoreError):
    """Another controller was first; read the store again."""


class StoreReadOnlyError(StoreError):
    """This controller may not change the store, such as a mounted Secret."""


class AuthorityStore(Protocol):
    """A place for the authority."""

    @property
    def place(self) -> str:
        """Its name for messages, such as `Secret maesh/maesh-ca`."""

    async def load(self) -> Stored:
        """Read the store; never from a cache. Raises StoreError."""

    async def write(self, files: Mapping[str, bytes | None], rotation: str, *, version: str) -> str:
        """Change the named files, None removes one, and the state of the rotation; return the new version.

        `version` is that of the store before, empty to create it. Raises StoreConflictError if it has another one.
        """

    def watch(self) -> AsyncIterator[Stored]:
        """Yield the content now and after each change, forever. While the store cannot be read, nothing is yielded."""
