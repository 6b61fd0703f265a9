"""Questions that an API server answers without storing anything: reviews of tokens, users and rights, and TokenRequest.

Takes a call and the body; returns the object with its status, or raises StatusError.
"""

from collections.abc import Mapping
from typing import Any

from maesh_testing.kubernetes.access import ANONYMOUS, AccessRules, Call
from maesh_testing.kubernetes.resources import ApiResource
from maesh_testing.kubernetes.statuses import Cause, refuse_invalid, refuse_request
from maesh_testing.kubernetes.store import Object
from maesh_testing.kubernetes.tokens import API_AUDIENCE, AccountTokens, User

_TOKEN_REVIEWS = ApiResource(
    group="authentication.k8s.io", plural="tokenreviews", kind="TokenReview", is_namespaced=False
)
_ACCESS_REVIEWS = ApiResource(
    group="authorization.k8s.io", plural="subjectaccessreviews", kind="SubjectAccessReview", is_namespaced=False
)
_OWN_ACCESS_REVIEWS = ApiResource(
    group="authorization.k8s.io", plural="selfsubjectaccessreviews", kind="SelfSubjectAccessReview", is_namespaced=False
)
_OWN_REVIEWS = ApiResource(
    group="authentication.k8s.io", plural="selfsubjectreviews", kind="SelfSubjectReview", is_namespaced=False
)
_SELF_REVIEWS = (_OWN_ACCESS_REVIEWS, _OWN_REVIEWS)
"""Reviews that users create about themselves: `system:basic-user` allows them for all authenticated users."""
_TOKEN_REQUESTS = ApiResource(group="authentication.k8s.io", plural="serviceaccounts", kind="TokenRequest")


class ReviewApi:
    """Answers the questions about users and tokens."""

    def __init__(self, access: AccessRules, tokens: AccountTokens) -> None:
        self._access = access
        self._tokens = tokens

    def __repr__(self) -> str:
        return f"<ReviewApi {self._tokens!r}>"

    def find_resource(self, call: Call) -> ApiResource | None:
        """Find what a call asks; None for one about something that is stored."""
        if (call.group, call.resource, call.subresource) == ("", "serviceaccounts", "token"):
            return _TOKEN_REQUESTS
        for each in (_TOKEN_REVIEWS, _ACCESS_REVIEWS, *_SELF_REVIEWS):
            if (call.group, call.resource, call.subresource) == (each.group, each.plural, ""):
                return each
        return None

    def check(self, user: User, call: Call, resource: ApiResource) -> None:
        """Raise StatusError unless the user may ask. All authenticated users may ask about themselves."""
        if resource not in _SELF_REVIEWS or user.name == ANONYMOUS:
            self._access.check(user, call, resource)

    def answer(self, resource: ApiResource, call: Call, given: Mapping[str, Any], user: User) -> Object:
        """Answer a question of a user, which is an object to create."""
        spec = given.get("spec") or {}
        if resource is _TOKEN_REQUESTS:
            return self._tokens.issue(call.namespace, call.name, spec)
        if resource is _OWN_REVIEWS:
            status: Object = {"userInfo": {"username": user.name, "groups": list(user.groups)}}
        elif resource is _OWN_ACCESS_REVIEWS:
            status = self._review_access({**spec, "user": user.name, "groups": list(user.groups)})
        else:
            status = self._review_token(spec) if resource is _TOKEN_REVIEWS else self._review_access(spec)
        head = {"kind": resource.kind, "apiVersion": resource.render_version("v1")}
        return {**head, "metadata": {"creationTimestamp": None}, "spec": spec, "status": status}

    def _review_token(self, spec: Mapping[str, Any]) -> Object:
        token = spec.get("token")
        if not token:
            raise refuse_request("token is required for TokenReview in authentication")
        found = self._access.find_owner(token, spec.get("audiences") or [API_AUDIENCE])
        if isinstance(found, str):
            return {"user": {}, "error": f"[{found}]"}
        user = {"username": found.name, "uid": found.uid, "groups": list(found.groups), "extra": dict(found.extra)}
        user = {name: value for name, value in user.items() if value}
        return {"authenticated": True, "user": user, "audiences": list(found.audiences)}

    def _review_access(self, spec: Mapping[str, Any]) -> Object:
        user, groups = spec.get("user", ""), spec.get("groups") or []
        path, resource = spec.get("nonResourceAttributes"), spec.get("resourceAttributes")
        causes = []
        if bool(path) == bool(resource):
            text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            causes.append(Cause("FieldValueInvalid", "spec.resourceAttributes", f"Invalid value: null: {text}"))
        if not user and not groups:
            causes.append(
                Cause(
                    "FieldValueInvalid",
                    "spec.user",
                    'Invalid value: "": at least one of user or group must be specified',
                )
            )
        if causes:
            raise refuse_invalid(_ACCESS_REVIEWS, "", causes)
        who = User(user, groups=tuple(groups))
        if path:
            is_allowed = self._access.may_use(who, path.get("verb", ""), path.get("path", ""))
        else:
            names = ("verb", "group", "resource", "subresource", "namespace", "name")
            is_allowed = self._access.may_call(who, Call(*((resource or {}).get(name, "") for name in names)))
        return {"allowed": is_allowed} if is_allowed else {"allowed": False, "reason": ""}
