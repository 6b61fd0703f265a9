"""The kind of finding of `maesh check` about claims: limits for which no key verifies tokens."""

import re
from collections.abc import Iterable, Sequence

from maesh_core.plugin import FindingKind, PolicyFinding, PolicyView
from maesh_jwt import JwtSettings

_find_claim = re.compile(r"(?:^|[\s,=])(claim:[^\s,]+)").search
_is_own_name = re.compile(r"(?:[^/]+\.)?(?:ratelimit|limit-concurrency)-[a-z]+").fullmatch
"""The annotations with sources, without prefix, also of one port."""

WITHOUT_KEYS = FindingKind(
    code="MSH821",
    severity="warning",
    title="a limit identifies clients by a claim, but no keys verify their tokens",
    hint="set jwt.keys for proxies and for this command: a proxy without keys does not start",
)


class ClaimPolicyChecker:
    """Finds claims in annotations that no key can verify."""

    finding_kinds: Sequence[FindingKind] = (WITHOUT_KEYS,)

    def __init__(self, settings: JwtSettings) -> None:
        self._has_keys = bool(settings.keys)

    def __repr__(self) -> str:
        return f"<ClaimPolicyChecker {self._has_keys}>"

    def check(self, view: PolicyView) -> Iterable[PolicyFinding]:
        """Find the first claim of each service."""
        for node in () if self._has_keys else view.nodes.values():
            for name, value in sorted(node.annotations.items()):
                claim = _find_claim(value) if _is_own_name(name) else None
                if claim is not None:
                    text = f"annotation {name}: {claim[1]} needs the keys that verify tokens: jwt.keys is not set"
                    yield PolicyFinding(code=WITHOUT_KEYS.code, key=node.key, text=text)
                    break
