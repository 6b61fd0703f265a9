"""Two nodes, and their controllers, whose objects are in an API server of the test."""

import json

from maesh_mtls.controller.proofs.account_proof import AUDIENCE

from maesh_testing import find_free_port

from .clusters import ACCOUNT, NAMESPACE, build_node, build_proxy
from .two_nodes import ADDRESSES, RELAY, TwoNodes

PERMISSIONS = [
    {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
    *(
        {"apiGroups": [""], "resources": [kind], "verbs": verbs, "namespace": NAMESPACE, **more}
        for kind, name in (("secrets", "maesh-ca"), ("configmaps", "maesh-trust"))
        for verbs, more in ((["create"], {}), (["get", "list", "watch", "update"], {"resourceNames": [name]}))
    ),
    {"apiGroups": [""], "resources": ["services"], "verbs": ["create", "update", "delete"], "namespace": NAMESPACE},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"], "namespace": NAMESPACE},
    {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]
"""What a controller may do; what it needs for encryption comes first."""


class ClusterNodes(TwoNodes):
    """Two nodes whose objects are in an API server. The proxies ask different controllers."""

    def __init__(self, start_maesh, upstream, folder, server):
        super().__init__(start_maesh, upstream, folder)
        self.server = server
        self.ports["other-api"] = find_free_port()
        server.apply([build_node(node) for node in ADDRESSES])
        self.account = server.add_token("token-of-the-controllers", user="controllers")
        server.set_rules(self.account, PERMISSIONS)

    def write(self, mode, *, receiver=RELAY, others=()):
        for node, address in (("sender", ADDRESSES["sender"]), ("receiver", receiver)):
            self.server.apply(build_proxy(node, address=address))
        services = (*self._build_service("web", mode, "http"), *self._build_service("raw", mode, "tcp"))
        self.server.apply([*services, *others])

    def start_controller(self, *flags, has_plugin=True, api="api"):
        """Start a controller of the cluster, and wait until it is ready."""
        assert has_plugin
        ports, name = self.ports, f"controller-{api}"
        kubeconfig = self.server.write_kubeconfig(self.folder / "kubeconfig", token=self.account)
        self.commands[name] = command = self._start_maesh(
            *("controller", "--kubeconfig", kubeconfig),
            *("--api-host", "127.0.0.1", "--api-port", ports[api]),
            *("--http-port", ports["http"], "--limit-http-port", 5, "--tcp-port", ports["tcp"], "--limit-tcp-port", 5),
            *("--mtls", "--set", f"mtls.port={ports['tunnel']}"),
            *flags,
        )
        command.wait_until(lambda: self._ask_admin(api, "/api/status/readiness").status == 200, "the API")

    def issue(self, node, **options):
        options = {"audiences": [AUDIENCE], "pod": f"proxy-{node}", **options}
        return self.server.issue_token(NAMESPACE, options.pop("account", ACCOUNT), **options)

    def read_problems(self, api="api"):
        return json.loads(self._ask_admin(api, "/api/status/controller").text)["problems"]

    def count_refusals(self, reason, api="api"):
        text = self._ask_admin(api, "/metrics").text
        line = f'maesh_mtls_refused_requests_total{{reason="{reason}"}} '
        return next((float(each.removeprefix(line)) for each in text.splitlines() if each.startswith(line)), 0.0)
