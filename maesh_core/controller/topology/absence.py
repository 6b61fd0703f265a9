"""Why nothing serves a service: what was looked at and could not be used, in words for a person.

Takes what is passed over while endpoints are read (endpoints.py); gives one text, which is asked for only where no
server was found.
"""

from collections.abc import Mapping

SHOWN_LIMIT = 3
"""Names that are given for each reason."""


class Absence:
    """What was passed over, by reason, and where it was looked for."""

    __slots__ = ("_passed_over", "where")

    def __init__(self) -> None:
        self._passed_over: dict[str, dict[str, None]] = {}
        self.where = ""
        """What holds where nothing was passed over: `its selector app=web matches no pod`."""

    def __repr__(self) -> str:
        return f"<Absence {self.where} {self._passed_over}>"

    def note(self, reason: str, name: str) -> None:
        """Note that a pod or an endpoint was passed over."""
        self._passed_over.setdefault(reason, {})[name] = None

    def explain(self) -> str:
        """Give the reasons, most frequent first, or where it was looked for in vain."""
        reasons = sorted(self._passed_over.items(), key=lambda item: (-len(item[1]), item[0]))
        return "; ".join(f"{reason}: {_list_names(names)}" for reason, names in reasons) or self.where


def describe_selector(selector: Mapping[str, str]) -> str:
    """Write a selector as kubectl takes it: `app=web,tier=x`."""
    return ",".join(f"{label}={value}" for label, value in sorted(selector.items()))


def _list_names(names: Mapping[str, None]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN_LIMIT])
    rest = len(names) - SHOWN_LIMIT
    return shown if rest <= 0 else f"{shown} and {rest} more"
