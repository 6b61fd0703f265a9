"""Who asks, and what he may: tokens, passwords, client certificates, and rules as RBAC has them.

Takes headers and certificate, gives a user; takes a user and a call, and refuses it. No I/O.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from maesh_testing.kubernetes.resources import ApiResource
from maesh_testing.kubernetes.statuses import StatusError, refuse_forbidden, refuse_login
from maesh_testing.kubernetes.tokens import API_AUDIENCE, AccountTokens, User

ANONYMOUS = "system:anonymous"
ADMIN = "admin"
AUTHENTICATED = "system:authenticated"
ACCOUNT_PREFIX = "system:serviceaccount:"
_PUBLIC = ("/version", "/livez", "/readyz", "/healthz")

Rule = Mapping[str, Any]
"""A rule of a Role: `apiGroups`, `resources`, `verbs`, `resourceNames`, or `nonResourceURLs` and `verbs`.

`namespace` where it holds in one alone.
"""


DISCOVERY: Sequence[Rule] = (
    {
        "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*"],
        "verbs": ["get"],
    },
    {"nonResourceURLs": ["/readyz", "/version", "/version/"], "verbs": ["get"]},
)
"""The ClusterRole `system:discovery`, which every cluster binds to all who have logged in."""


class Call(NamedTuple):
    """What a request asks for, in RBAC's words. Of a document, such as `/apis`, `resource` is the path."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str


class AccessRules:
    """The users of one server, who may also have rules by a group of theirs.

    A user without rules may do everything; service accounts what `system:discovery` allows; the anonymous one nothing.
    """

    def __init__(self, accounts: AccountTokens, *, is_anonymous_admin: bool = False) -> None:
        self._accounts = accounts
        self._tokens: dict[str, str] = {}
        self._passwords: dict[str, str] = {}
        self._rules: dict[str, Sequence[Rule]] = {AUTHENTICATED: DISCOVERY}
        if not is_anonymous_admin:
            self._rules[ANONYMOUS] = ()

    def __repr__(self) -> str:
        return f"<AccessRules of {sorted({*self._tokens.values(), *self._passwords})}>"

    def add_token(self, token: str, user: str) -> None:
        """Let a bearer token stand for a user."""
        self._tokens[token] = user

    def expire_token(self, token: str) -> None:
        """Answer a token with 401 from now on."""
        self._tokens.pop(token, None)
        self._accounts.expire(token)

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

    def find_owner(self, token: str, audiences: Sequence[str]) -> User | str:
        """Find the user of a token that is for one of the audiences, otherwise say why there is none."""
        if name := self._tokens.get(token):
            if API_AUDIENCE in audiences:
                return User(name, groups=(AUTHENTICATED,))
            return "invalid bearer token"
        return self._accounts.find(token, audiences)

    def identify(self, authorization: str, certificate: Mapping[str, Any] | None) -> User:
        """Return the user. Raises StatusError when the server does not know him."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            found = self.find_owner(value.strip(), [API_AUDIENCE])
            if isinstance(found, str):
                raise refuse_login()
            return found
        return User(self._identify_by_name(scheme, value, certificate))

    def _identify_by_name(self, scheme: str, value: str, certificate: Mapping[str, Any] | None) -> str:
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

    def may_call(self, user: User, call: Call) -> bool:
        """Whether the user may do this."""
        rules = self._find_rules(user)
        return rules is None or any(_allows(rule, call) for rule in rules)

    def may_use(self, user: User, verb: str, path: str) -> bool:
        """Whether the user may use a path that is no resource."""
        rules = self._find_rules(user)
        return rules is None or any(_allows_path(rule, verb, path) for rule in rules)

    def _find_rules(self, user: User) -> Sequence[Rule] | None:
        """Find the user's own rules and those of his groups; None when he may do everything."""
        own = self._rules.get(user.name, () if user.name.startswith(ACCOUNT_PREFIX) else None)
        return None if own is None else [*own, *(rule for group in user.groups for rule in self._rules.get(group, ()))]

    def check(self, user: User, call: Call, resource: ApiResource) -> None:
        """Raise StatusError unless the user may do this."""
        if not self.may_call(user, call):
            where = f'in the namespace "{call.namespace}"' if call.namespace else "at the cluster scope"
            what = f"{call.resource}/{call.subresource}" if call.subresource else call.resource
            text = f'User "{user.name}" cannot {call.verb} resource "{what}" in API group "{call.group}" {where}'
            raise refuse_forbidden(resource, call.name if call.verb != "create" else "", text)

    def check_document(self, user: User, path: str) -> None:
        """Raise StatusError unless the user may read this document: all who have logged in may."""
        if user.name == ANONYMOUS and ANONYMOUS in self._rules and not path.startswith(_PUBLIC):
            raise StatusError(403, "Forbidden", f'forbidden: User "{user.name}" cannot get path "{path}"')


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


def _allows_path(rule: Rule, verb: str, path: str) -> bool:
    patterns = rule.get("nonResourceURLs", ())
    is_named = any(path == each or (each.endswith("*") and path.startswith(each[:-1])) for each in patterns)
    return is_named and not {"*", verb}.isdisjoint(rule.get("verbs", ()))
