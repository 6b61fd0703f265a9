"""A cluster's DNS in an API server: its Deployments and ConfigMaps, patched by the code under test."""

from datetime import UTC, datetime

from maesh_core.controller.dns.patching import ClusterDns
from maesh_core.model.keys import ObjectKey

FOLDERS = {"coredns-custom": "/etc/coredns/custom/", "kube-dns": "/kube-dns-config"}
EXACT = {ObjectKey("shop", "a" * 60): "maesh-cut-0123", ObjectKey("lab", "b" * 60): "maesh-cut-4567"}


def build_deployment(name, image, maps, *, namespace="kube-system", container="coredns", labels=None, optional=False):
    volumes = [{"name": f"v-{each}", "configMap": {"name": each, "optional": optional}} for each in maps]
    mounts = [{"name": f"v-{each}", "mountPath": FOLDERS.get(each, "/etc/coredns")} for each in maps]
    template = {
        "metadata": {"labels": {"k8s-app": name}},
        "spec": {"containers": [{"name": container, "image": image, "volumeMounts": mounts}], "volumes": volumes},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"selector": {"matchLabels": {"k8s-app": name}}, "template": template},
    }


def build_map(name, data=None, *, namespace="kube-system", labels=None):
    metadata = {"name": name, "namespace": namespace} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata} | ({"data": data} if data else {})


class Cluster:
    """An API server with shortcuts, and a mesh's view of its DNS; time passes in pauses alone."""

    def __init__(self, server, client):
        self.server = server
        self.client = client
        self.pauses = []
        self.reported = []

    def make_dns(self, **options):
        async def pause(seconds):
            self.pauses.append(seconds)

        return ClusterDns(
            self.client,
            mesh_namespace="maesh",
            pause=pause,
            now=lambda: datetime(2020, 1, 2, tzinfo=UTC),
            clock=lambda: sum(self.pauses),
            **options,
        )

    async def prepare(self, exact=None, **options):
        dns = self.make_dns(**options)
        return await dns.apply(await dns.plan(exact), report=self.reported.append)

    async def clean_up(self):
        dns = self.make_dns()
        return await dns.apply(await dns.plan_removal(), report=self.reported.append)

    def get_map(self, name="coredns", namespace="kube-system"):
        return self.server.find("configmaps", name, namespace)

    def get_corefile(self, name="coredns", namespace="kube-system"):
        return self.get_map(name, namespace)["data"]["Corefile"]

    def get_annotations(self, name="coredns", namespace="kube-system"):
        template = self.server.get("deployments", name, namespace)["spec"]["template"]
        return template["metadata"].get("annotations", {})

    def list_writes(self):
        return [call for call in self.server.calls if call.verb not in ("get", "list", "watch")]

    def strip(self):
        """Everything in kube-system and the mesh's namespace, without what a server counts."""
        found = {}
        for plural in ("configmaps", "deployments", "services"):
            for each in self.server.list(plural):
                metadata = {
                    k: v for k, v in each["metadata"].items() if k in ("labels", "annotations", "name", "namespace")
                }
                found[plural, metadata["namespace"], metadata["name"]] = {
                    **{key: value for key, value in each.items() if key not in ("metadata", "status")},
                    "metadata": metadata,
                }
        return found
