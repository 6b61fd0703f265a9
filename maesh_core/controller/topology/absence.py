"""Explains why a service has no server: which pods or endpoints were found and could not be used.

Takes what endpoints.py skips; returns one text, which is only needed if no server was found.
"""

from collections.abc import Mapping

SHOWN_LIMIT = 3
"""Limit of names for each reason."""


class Absence:
    """The skipped pods and endpoints, by reason, and where they were searched."""

    __slots__ = ("_skipped", "where")

    def __init__(self) -> None:
        self._skipped: dict[str, dict[str, None]] = {}
        self.where = ""
        """The text if nothing was skipped: `its selector app=web matches no pod`."""

    def __repr__(self) -> str:
        return f"<Absence {self.where} {self._skipped}>"

    def note(self, reason: str, name: str) -> None:
        """Record that a pod or an endpoint was skipped."""
        self._skipped.setdefault(reason, {})[name] = None

    def explain(self) -> str:
        """Return the reasons, most frequent first, or where nothing was found."""
        reasons = sorted(self._skipped.items(), key=lambda item: (-len(item[1]), item[0]))
        return "; ".join(f"{reason}: {_list_names(names)}" for reason, names in reasons) or self.where


def describe_selector(selector: Mapping[str, str]) -> str:
    """Render a selector as kubectl accepts it: `app=web,tier=x`."""
    return ",".join(f"{label}={value}" for label, value in sorted(selector.items()))


def _list_names(names: Mapping[str, None]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN_LIMIT])
    rest = len(names) - SHOWN_LIMIT
    return shown if rest <= 0 else f"{shown} and {rest} more"
