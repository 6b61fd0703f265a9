"""The checks of `maesh check --cluster`, by section: id, what is true if all is well, and what to do if it is not.

The checks of MESH are those that plugins add (`MeshCondition`). Values only. docs/check-cluster.md has an anchor for
each id, which a test checks.
"""

from collections.abc import Mapping, Sequence

from maesh_core.controller.cluster_check.outcomes import Check

API_SERVER = "kubernetes-api"
RIGHTS_OF_USER = "your permissions"
PODS = "pods of the mesh"
PERMISSIONS = "permissions of the controllers"
KINDS = "kinds of objects"
CONTROLLERS = "controllers"
PROXIES = "proxies"
CERTIFICATES = "certificates"
DNS = "dns"
WRITTEN = "what the leader writes"
MESH = "what plugins report"
SERVICES = "services and objects"

CATALOGUE: Mapping[str, Sequence[Check]] = {
    API_SERVER: (
        Check(
            "api-reachable",
            "the API server answers",
            "Check --kubeconfig, --master-url and the login: kubectl version must work, too.",
        ),
        Check(
            "api-version",
            "the version of Kubernetes is supported",
            "Use Kubernetes 1.22 or later; on 1.21, set mtls.enabled=false in the chart.",
        ),
    ),
    RIGHTS_OF_USER: (
        Check(
            "user-permissions",
            "you may use what the commands of maesh need",
            "Bind yourself to the Role maesh-viewer in the mesh's namespace, or ask an administrator for these rights.",
        ),
    ),
    PODS: (
        Check(
            "namespace-exists",
            "the mesh is installed in its namespace",
            "Install the Helm chart, or name the mesh's namespace with --namespace.",
        ),
        Check(
            "controller-pods",
            "the controllers' pods are ready",
            "Look at them with kubectl describe pod and kubectl logs.",
        ),
        Check(
            "proxy-pods",
            "every node that should have a proxy has a ready one",
            "Look at the pods with kubectl describe pod and kubectl logs. A node without a pod may have taints that"
            " mesh.tolerations does not allow.",
        ),
        Check(
            "same-images",
            "all pods of the mesh run the same image",
            "Wait for the end of the rollout, or look at it with kubectl rollout status.",
        ),
    ),
    PERMISSIONS: (
        Check(
            "controller-permissions",
            "the controllers' account may do what the chart allows it",
            "Upgrade the release with helm upgrade, which restores the Roles. Add further kinds to"
            " controller.extraRules and further names of DNS to dns.deployments and dns.configMaps.",
        ),
    ),
    KINDS: (
        Check(
            "core-kinds",
            "the API server has the kinds that every mesh needs",
            "Use Kubernetes 1.22 or later, with the API group discovery.k8s.io enabled.",
        ),
        Check(
            "plugin-kinds",
            "the kinds of the enabled plugins are installed",
            "Install the CustomResourceDefinitions: those of SMI are in charts/maesh/crds, those of the Gateway API at"
            " gateway-api.sigs.k8s.io. Objects of a kind that is not installed do not exist for the mesh.",
        ),
        Check(
            "kind-versions",
            "the API server serves these kinds in a version that the mesh reads",
            "Serve one of the listed versions in the CustomResourceDefinition.",
        ),
    ),
    CONTROLLERS: (
        Check(
            "controllers-answer",
            "every controller answers",
            "Look at the controllers' logs. --endpoint names another controller, --namespace another namespace.",
        ),
        Check(
            "controllers-ready",
            "every controller is ready",
            "A controller is ready after its first build, and while it reaches the API server. Look at its log.",
        ),
        Check(
            "one-leader",
            "exactly one controller leads",
            "Look at the Lease maesh-controller in the mesh's namespace, and whether the controllers may update it.",
        ),
        Check(
            "lease-renewed",
            "the leader renews its Lease",
            "Look at the log of the leader, and whether it may update the Lease maesh-controller.",
        ),
        Check(
            "controllers-read-everything",
            "the controllers read all that they should",
            "Look at the reason of each source; if it is forbidden, see controller-permissions.",
        ),
        Check(
            "same-versions",
            "controllers and this command have the same version",
            "Wait for the end of the rollout, or install the version of the mesh on this machine.",
        ),
        Check(
            "same-plugins",
            "all controllers have the same plugins",
            "Wait for the end of the rollout; all controllers need the same flags.",
        ),
    ),
    PROXIES: (
        Check(
            "proxies-known",
            "proxies pull from the controllers",
            "Look at the log of a proxy: it says why it cannot reach a controller.",
        ),
        Check(
            "proxies-ready",
            "the controllers have answered every proxy within 90 s",
            "Look at the log of the proxy. Until it pulls again, it routes traffic by its last configuration.",
        ),
        Check(
            "proxies-current",
            "every proxy has the newest configuration",
            "Look at the log of the proxy: it says why it refuses a configuration.",
        ),
        Check(
            "proxies-accept",
            "no proxy refuses a part of its configuration",
            "Enable the same plugins for controllers and proxies, and wait for the end of a rollout.",
        ),
    ),
    CERTIFICATES: (
        Check(
            "authority-valid",
            "the mesh's authority is valid",
            "Rotate it in time with maesh mtls rotate.",
        ),
        Check(
            "proxy-certificates",
            "every proxy has a valid certificate",
            "Look at the log of the proxy, and at maesh mtls status.",
        ),
    ),
    DNS: (
        Check(
            "dns-configured",
            "the cluster's DNS is configured for the zones of the mesh",
            "Run maesh prepare; maesh prepare --dry-run shows what it would change.",
        ),
        Check(
            "dns-answers",
            "the cluster's DNS answers with the addresses of shadow services",
            "CoreDNS loads its configuration within two minutes. If it still does not answer, look at its log.",
        ),
    ),
    WRITTEN: (
        Check(
            "shadow-services",
            "every service has its shadow service",
            "Look at the log of the leader. See controller-permissions if it may not write Services.",
        ),
        Check(
            "orphaned-shadow-services",
            "no shadow service is left of a service that does not exist",
            "The leader deletes them; look at its log.",
        ),
        Check(
            "shadow-endpoints",
            "shadow services select the proxies",
            "The leader restores them. Look at what else edits these Services.",
        ),
        Check(
            "statuses-written",
            "the statuses of routes are up to date",
            "The leader writes them. See controller-permissions if it may not patch them, and look at its log.",
        ),
    ),
    MESH: (),
    SERVICES: (
        Check(
            "services-without-errors",
            "no service has an error",
            "maesh status shows the errors; kubectl describe service shows them as Events.",
        ),
        Check(
            "services-served",
            "every port of every service has a ready server",
            "Look at the pods of the service, and at its selector and target ports.",
        ),
        Check(
            "objects-without-errors",
            "no other object has an error",
            "An object with an error has no effect or only a part of it. maesh status shows them all.",
        ),
    ),
}
