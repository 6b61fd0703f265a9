"""The Status objects that a Kubernetes API server answers errors with, as exceptions.

Takes what went wrong, gives code, reason, message and details as k8s.io/apimachinery's errors.go words them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from maesh_testing.kubernetes.resources import ApiResource


class Cause(NamedTuple):
    """One field that is not as it must be. `type` is `FieldValueInvalid`, `FieldValueRequired` and so on."""

    type: str
    field: str
    message: str


class StatusError(Exception):
    """A request is refused; `build` gives the Status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
        continue_token: str = "",
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s
        self.continue_token = continue_token
        if retry_after_s is not None:
            self.details["retryAfterSeconds"] = retry_after_s

    def build(self) -> dict[str, Any]:
        """Build the Status object."""
        metadata = {"continue": self.continue_token} if self.continue_token else {}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure"}
        status |= {"message": self.message} | ({"reason": self.reason} if self.reason else {})
        return status | ({"details": self.details} if self.details else {}) | {"code": self.code}


def refuse_missing(resource: ApiResource, name: str) -> StatusError:
    """Say that there is no such object."""
    return StatusError(404, "NotFound", f'{resource.qualified} "{name}" not found', details=_name(resource, name))


def refuse_path() -> StatusError:
    """Say that nothing is served at this path."""
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def refuse_existing(resource: ApiResource, name: str) -> StatusError:
    """Say that there is such an object already."""
    text = f'{resource.qualified} "{name}" already exists'
    return StatusError(409, "AlreadyExists", text, details=_name(resource, name))


def refuse_conflict(resource: ApiResource, name: str, text: str = "") -> StatusError:
    """Say that the object was changed meanwhile."""
    text = text or ("the object has been modified; please apply your changes to the latest version and try again")
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {text}'
    return StatusError(409, "Conflict", message, details=_name(resource, name))


def refuse_invalid(resource: ApiResource, name: str, causes: Sequence[Cause]) -> StatusError:
    """Say which fields are not as they must be."""
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    found = [{"reason": cause.type, "message": cause.message, "field": cause.field} for cause in causes]
    details = {"name": name, "group": resource.group, "kind": resource.kind, "causes": found}
    details = {key: value for key, value in details.items() if value}
    return StatusError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details=details)


def refuse_forbidden(resource: ApiResource, name: str, text: str) -> StatusError:
    """Say that who asks may not."""
    what = f'{resource.qualified} "{name}"' if name else resource.qualified
    return StatusError(403, "Forbidden", f"{what} is forbidden: {text}", details=_name(resource, name))


def refuse_login() -> StatusError:
    """Say that the server does not know who asks."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def refuse_request(text: str) -> StatusError:
    """Say that the request makes no sense."""
    return StatusError(400, "BadRequest", text)


def refuse_method() -> StatusError:
    """Say that the path does not take this method."""
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def refuse_media_type(accepted: Sequence[str]) -> StatusError:
    """Say that the body is in no known format."""
    text = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return StatusError(415, "UnsupportedMediaType", text)


def refuse_expired(text: str, *, continue_token: str = "") -> StatusError:
    """Say that what is asked for has been forgotten."""
    return StatusError(410, "Expired", text, continue_token=continue_token)


def refuse_future_version(asked: int, current: int) -> StatusError:
    """Say that this version has not been yet, as a server does that lags behind another."""
    details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
    text = f"Timeout: Too large resource version: {asked}, current: {current}"
    return StatusError(504, "Timeout", text, details=details, retry_after_s=1)


def _name(resource: ApiResource, name: str) -> dict[str, Any]:
    found = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in found.items() if value}
