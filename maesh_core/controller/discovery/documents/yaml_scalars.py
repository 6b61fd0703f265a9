"""Interprets plain scalars of YAML as Kubernetes does: those of YAML 1.1, without dates and without base 60.

Takes the text of a scalar without quotes; returns a plain value. Pure.
"""

import re
from typing import Final

_CONSTANTS: Final[dict[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_NUMBER_STARTS = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(?:(0[bB][01]{1,64})|(0[xX][0-9a-fA-F]{1,16})|(0[oO]?[0-7]{1,22})|(0|[1-9][0-9]{0,19}))")
_BASES = (2, 16, 8, 10)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


def resolve_scalar(text: str) -> bool | int | float | str | None:
    """Interpret a plain scalar as the parser of Kubernetes does."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    digits = text.replace("_", "")
    integer = _INTEGER.fullmatch(digits)
    if integer is not None:
        return int(digits, _BASES[(integer.lastindex or 0) - 1])
    if _FLOAT.fullmatch(digits) is not None:
        return float(digits)
    return text
