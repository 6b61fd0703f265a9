"""What accounts may do by the Roles of rendered manifests, as the API server's RBAC authorizer decides it.

Takes manifests as dicts. Says whether a request is allowed; tests compare it with the requests that were made.
"""

from typing import NamedTuple


class Grant(NamedTuple):
    """A rule that an account has; `namespace` is empty where it holds for the whole cluster."""

    namespace: str
    rule: dict


class Permissions:
    """The accounts' rights of one set of manifests."""

    def __init__(self, manifests):
        self._roles = {
            (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each["rules"]
            for each in manifests
            if each["kind"] in ("Role", "ClusterRole")
        }
        self._bindings = [each for each in manifests if each["kind"] in ("RoleBinding", "ClusterRoleBinding")]

    def list_grants(self, account):
        """List the rules of an account, `namespace/name`; a binding to a role that is not there is an error."""
        namespace, _, name = account.partition("/")
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        return [
            Grant(binding["metadata"].get("namespace", ""), rule)
            for binding in self._bindings
            if subject in binding["subjects"]
            for rule in self._find_role(binding)
        ]

    def _find_role(self, binding):
        reference = binding["roleRef"]
        namespace = binding["metadata"].get("namespace", "") if reference["kind"] == "Role" else ""
        return self._roles[reference["kind"], namespace, reference["name"]]

    def allows(self, account, *, verb, group, resource, subresource="", namespace="", name=""):
        """Say whether an account may do this; no namespace: across all, or to what has none.

        `name` is empty for list, watch, create and deletecollection, so a rule with names never allows these.
        """
        whole = f"{resource}/{subresource}" if subresource else resource
        return any(
            grant.namespace in ("", namespace)
            and bool({verb, "*"} & set(grant.rule["verbs"]))
            and bool({group, "*"} & set(grant.rule.get("apiGroups", ())))
            and bool({whole, "*", f"*/{subresource}"} & set(grant.rule.get("resources", ())))
            and (not grant.rule.get("resourceNames") or name in grant.rule["resourceNames"])
            for grant in self.list_grants(account)
        )

    def allows_path(self, account, *, verb, path):
        """Say whether an account may use this path, which is no resource. Only rules for the whole cluster count."""
        return any(
            verb in grant.rule["verbs"]
            and any(
                path == each or (each.endswith("*") and path.startswith(each[:-1]))
                for each in grant.rule.get("nonResourceURLs", ())
            )
            for grant in self.list_grants(account)
            if not grant.namespace
        )
