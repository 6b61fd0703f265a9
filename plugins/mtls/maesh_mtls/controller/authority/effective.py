"""Which authority signs now, and which certificates are trusted now, by what the store has.

Takes the content of a store; returns the authority. `tls.crt` and `tls.key` are the authority that is wanted. The
leader keeps the one in use in `signer.crt`, `signer.key` and `trusted.pem`, and replaces it in phases
(rotation/steps.py). Without these files, the wanted one is in use. Raises ConfigurationError, whose text never contains
a key.
"""

from datetime import datetime

import msgspec
from cryptography import x509

from maesh_mtls.controller.authority.ca import SigningAuthority, read_authority
from maesh_mtls.controller.authority.stores import (
    BUNDLE,
    CERTIFICATE,
    KEY,
    SIGNER_CERTIFICATE,
    SIGNER_KEY,
    TRUSTED,
    Stored,
)
from maesh_mtls.trust import join_bundles

_IN_USE = {CERTIFICATE: SIGNER_CERTIFICATE, KEY: SIGNER_KEY, TRUSTED: BUNDLE}


def read_effective(stored: Stored, now: datetime) -> SigningAuthority:
    """Read the authority that signs now, and the certificates that are trusted now.

    Its own certificate may have ended, so that it can be replaced.
    """
    if not is_adopted(stored):
        return read_authority(stored, now)
    files = {name: stored.files[other] for name, other in _IN_USE.items() if other in stored.files}
    return read_authority(msgspec.structs.replace(stored, files=files), now, can_have_ended=True)


def is_adopted(stored: Stored) -> bool:
    """Whether the authority in use is recorded."""
    return SIGNER_CERTIFICATE in stored.files and BUNDLE in stored.files


def adopt(stored: Stored, now: datetime) -> dict[str, bytes | None]:
    """Return the files that record the wanted authority as the one in use."""
    bundle = join_bundles([read_authority(stored, now, can_have_ended=True).bundle]).encode()
    return {SIGNER_CERTIFICATE: stored.files[CERTIFICATE], SIGNER_KEY: stored.files[KEY], BUNDLE: bundle}


def get_key_id(authority: SigningAuthority) -> str:
    """Return the key identifier that certificates of this authority name as that of their issuer."""
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return (issuer.key_identifier or b"").hex()
