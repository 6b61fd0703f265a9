"""The proxy's half: sets the host and the target that servers get in place of the client's.

Only what is sent changes: middlewares, rules, logs and metrics have the request as the client sent it.
"""

from typing import Final

from maesh_core.plugin import Exchange, Middleware, PathChanger, Response, is_ambiguous
from maesh_rewrite.settings import Rewrite

AMBIGUOUS: Final = Response(status=403, reason="the path is ambiguous")
TOO_LONG: Final = Response(status=414, reason="the rewritten target is too long")


class HostRewriting(Middleware):
    """Another host only."""

    def __init__(self, settings: Rewrite) -> None:
        self._host = settings.host.encode()

    def __repr__(self) -> str:
        return f"<HostRewriting {self._host!r}>"

    def on_request(self, exchange: Exchange) -> None:
        """Set the host."""
        exchange.new_host = self._host


class PathRewriting(Middleware):
    """Another path, and another host if there is one."""

    def __init__(self, changer: PathChanger, host: str) -> None:
        self._changer = changer
        self._is_prefix: bool = changer.is_prefix
        self._host = host.encode()
        self._last_target = self._last_changed = b""
        """A client often repeats a target, which is changed once."""

    def __repr__(self) -> str:
        return f"<PathRewriting {self._host!r} {self._changer!r}>"

    def on_request(self, exchange: Exchange) -> Response | None:
        """Set the target and the host.

        The rest of an ambiguous path, such as `/..`, could leave the new prefix, so such a request is refused.
        """
        if self._host:
            exchange.new_host = self._host
        target = exchange.target
        if target != self._last_target:
            if self._is_prefix and is_ambiguous(target):
                return AMBIGUOUS
            changed = self._changer.change(target)
            if changed is None or not target.startswith(b"/"):  # `OPTIONS *` has no path
                return None
            self._last_target, self._last_changed = target, changed
        try:
            exchange.new_target = self._last_changed
        except ValueError:  # its parts are checked, so only their length can be wrong
            return TOO_LONG
        return None


class RewriteFactory:
    """Builds the middleware of each service or rule with a rewrite."""

    kind = "rewrite"
    settings_type = Rewrite

    def build_middleware(self, settings: Rewrite, service: str) -> Middleware:
        """Build the middleware of one service or rule."""
        if settings.path is None:
            return HostRewriting(settings)
        return PathRewriting(PathChanger(settings.path), settings.host)
