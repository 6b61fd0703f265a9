"""Who asks, and what he may: tokens, passwords, client certificates, and rules as RBAC has them.

Takes headers and certificate, gives a user; takes a user and a call, and refuses it. No I/O.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from maesh_testing.kubernetes.resources import ApiResource
from maesh_testing.kubernetes.statuses import StatusError, refuse_forbidden, refuse_login

ANONYMOUS = "system:anonymous"
ADMIN = "admin"
_PUBLIC = ("/version", "/livez", "/readyz", "/healthz")

Rule = Mapping[str, Any]
"""A rule of a Role: `apiGroups`, `resources`, `verbs`, `resourceNames`; `namespace` where it holds in one alone."""


class Call(NamedTuple):
    """What a request asks for, in RBAC's words. Of a document, such as `/apis`, `resource` is the path."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str


class AccessRules:
    """The users of one server. A user without rules may do everything; the anonymous one nothing."""

    def __init__(self, *, is_anonymous_admin: bool = False) -> None:
        self._tokens: dict[str, str] = {}
        self._passwords: dict[str, str] = {}
        self._rules: dict[str, Sequence[Rule]] = {} if is_anonymous_admin else {ANONYMOUS: ()}

    def __repr__(self) -> str:
        return f"<AccessRules of {sorted({*self._tokens.values(), *self._passwords})}>"

    def add_token(self, token: str, user: str) -> None:
        """Let a bearer token stand for a user."""
        self._tokens[token] = user

    def expire_token(self, token: str) -> None:
        """Answer a token with 401 from now on."""
        self._tokens.pop(token, None)

    def add_password(self, user: str, password: str) -> None:
        """Let a user come with a password."""
        self._passwords[user] = password

    def set_rules(self, who: str, rules: Iterable[Rule] | None) -> None:
        """Say what a user, named or by a token of his, may do; None: everything."""
        user = self._tokens.get(who, who)
        if rules is None:
            self._rules.pop(user, None)
        else:
            self._rules[user] = list(rules)

    def identify(self, authorization: str, certificate: Mapping[str, Any] | None) -> str:
        """Give the user. Raises StatusError when the server does not know him."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            if user := self._tokens.get(value.strip()):
                return user
            raise refuse_login()
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError) as error:
                raise refuse_login() from error
            if self._passwords.get(user) == password:
                return user
            raise refuse_login()
        if certificate:
            names = {key: value for part in certificate["subject"] for key, value in part}
            return str(names.get("commonName") or ANONYMOUS)
        return ANONYMOUS

    def check(self, user: str, call: Call, resource: ApiResource) -> None:
        """Raise StatusError unless the user may do this."""
        rules = self._rules.get(user)
        if rules is not None and not any(_allows(rule, call) for rule in rules):
            where = f'in the namespace "{call.namespace}"' if call.namespace else "at the cluster scope"
            what = f"{call.resource}/{call.subresource}" if call.subresource else call.resource
            text = f'User "{user}" cannot {call.verb} resource "{what}" in API group "{call.group}" {where}'
            raise refuse_forbidden(resource, call.name if call.verb != "create" else "", text)

    def check_document(self, user: str, path: str) -> None:
        """Raise StatusError unless the user may read this document: all who have logged in may."""
        if user == ANONYMOUS and ANONYMOUS in self._rules and not path.startswith(_PUBLIC):
            raise StatusError(403, "Forbidden", f'forbidden: User "{user}" cannot get path "{path}"')


def _allows(rule: Rule, call: Call) -> bool:
    names = rule.get("resourceNames") or ()
    what = f"{call.resource}/{call.subresource}" if call.subresource else call.resource
    wanted = {what, "*", f"*/{call.subresource}" if call.subresource else "*"}
    return (
        rule.get("namespace") in (None, call.namespace)
        and not {"*", call.group}.isdisjoint(rule.get("apiGroups", ()))
        and not wanted.isdisjoint(rule.get("resources", ()))
        and not {"*", call.verb}.isdisjoint(rule.get("verbs", ()))
        and (not names or (call.verb != "create" and call.name in names))
    )
