"""Admits requests to the controller's API: by their Host and origin first, and then by who sends them.

Takes a request and what the API knows of its path; returns the caller, or the response that refuses it.
"""

from http import HTTPStatus

from maesh_core.controller.api.security.authentication import ANYONE, CHALLENGE, RETRY, Authentication, Caller
from maesh_core.controller.api.security.browser_guard import BrowserGuard, Refusal
from maesh_core.controller.api.server import build_text
from maesh_core.plain_http.messages import Request, Response

_FIELDS = {
    HTTPStatus.UNAUTHORIZED: CHALLENGE,
    HTTPStatus.TOO_MANY_REQUESTS: RETRY,
    HTTPStatus.SERVICE_UNAVAILABLE: RETRY,
}


class ApiAccess:
    """The checks of one API; without `authentication`, everybody may use it."""

    __slots__ = ("_authentication", "_guard")

    def __init__(self, guard: BrowserGuard, authentication: Authentication | None = None) -> None:
        self._guard = guard
        self._authentication = authentication

    def __repr__(self) -> str:
        return f"<ApiAccess {self._authentication!r}>"

    async def admit(
        self,
        request: Request,
        path: str,
        *,
        node: str | None = None,
        is_page: bool = False,
        is_costly: bool = False,
        is_open: bool = False,
    ) -> Caller | Response:
        """Check a request for a decoded path.

        `node` is the name of the proxy that a pull names. A path that `is_open` checks its callers itself.
        """
        refusal = self._guard.check(request.fields, is_page=is_page, is_costly=is_costly)
        if refusal is not None:
            return build_text(refusal.status, f"{refusal.text}\n", is_last=True)
        if self._authentication is None or is_open:
            return ANYONE
        caller = await self._authentication.check(request, path, node)
        if isinstance(caller, Refusal):
            return build_text(caller.status, f"{caller.text}\n", _FIELDS.get(HTTPStatus(caller.status)))
        return caller
