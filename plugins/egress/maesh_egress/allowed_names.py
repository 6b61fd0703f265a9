"""Which DNS names may be carried: the patterns of the setting `allow`.

A pattern is a name, `*.DOMAIN` for all names below a domain, or `*` for all names. Takes names in lower case, without
final dot.
"""

from collections.abc import Sequence

from maesh_core.plugin import is_subdomain

ALL = "*"
_BELOW = "*."


def check_pattern(pattern: str) -> None:
    """Raise ValueError if a pattern cannot be used."""
    name = pattern.removeprefix(_BELOW)
    if pattern != ALL and not is_subdomain(name):
        raise ValueError(f"allow: {pattern!r} is neither a name in lower case, nor *.DOMAIN, nor *")


class AllowedNames:
    """The set of names that match a pattern."""

    __slots__ = ("_domains", "_is_all", "_names")

    def __init__(self, patterns: Sequence[str]) -> None:
        self._is_all = ALL in patterns
        self._names = frozenset(each for each in patterns if "*" not in each)
        self._domains = tuple(each[1:] for each in patterns if each.startswith(_BELOW))

    def __repr__(self) -> str:
        """Show the patterns."""
        below = (f"*{domain}" for domain in self._domains)
        return f"<AllowedNames {','.join((ALL,) if self._is_all else (*sorted(self._names), *below)) or 'none'}>"

    def __contains__(self, name: str) -> bool:
        """Whether a name may be carried."""
        return self._is_all or name in self._names or name.endswith(self._domains)
