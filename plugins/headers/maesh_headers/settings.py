"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Literal

import msgspec


class HeaderChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of one header; `value` is empty for `remove`."""

    action: Literal["set", "add", "remove"]
    name: str
    value: str = ""


class HeaderChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The changes of one service or rule, in the order in which they are made."""

    request: tuple[HeaderChange, ...] = ()
    response: tuple[HeaderChange, ...] = ()
