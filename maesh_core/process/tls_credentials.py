"""A key with its certificates, as text that is only kept in memory.

Values only. maesh_core/process/tls_contexts.py builds TLS contexts from them; it is apart because it imports `ssl`.
"""

import msgspec


class TlsCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """A key, its certificate with those between it and an authority, and the authorities to trust; all in PEM."""

    key: str
    chain: str
    bundle: str

    def __repr__(self) -> str:
        """Show nothing, because values can get into logs."""
        return "<TlsCredentials>"
