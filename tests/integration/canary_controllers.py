"""Flagger and Argo Rollouts, as far as they touch a mesh: what they read and write at the API server, in their order.

Each takes the manifests that its users write, and does one step of a release with each call. The requests are those of
the sources: Flagger's pkg/router and pkg/controller/scheduler.go (1.42), Argo Rollouts' rollout/trafficrouting/smi
(1.8), and its plugin rollouts-plugin-trafficrouter-gatewayapi (0.8).
"""

import copy
import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request

RETRIES = 5
MERGE_PATCH = "application/merge-patch+json"
SPLITS, ROUTES = "trafficsplits", "httproutes"
GROUPS = {SPLITS: "split.smi-spec.io", ROUTES: "gateway.networking.k8s.io"}
NOT_FOUND, CONFLICT = 404, 409


class NotReadyError(Exception):
    """A route that the mesh has not accepted yet: Flagger tries again at its next turn."""


class ConflictError(Exception):
    """Somebody else has written the object, such as the mesh its status."""


class Api:
    """Requests to an API server, in one version of a group."""

    def __init__(self, url, token):
        self._url, self._token = url, token

    def send(self, method, plural, version, namespace, name="", body=None, content_type="application/json"):
        """Send a request; return the object, or None if there is none."""
        root = f"apis/{GROUPS[plural]}/{version}" if plural in GROUPS else "api/v1"
        path = f"{self._url}/{root}/namespaces/{namespace}/{plural}{f'/{name}' if name else ''}"
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == NOT_FOUND:
                return None
            if error.code == CONFLICT:
                raise ConflictError(path) from error
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error


class Prometheus:
    """Queries as Flagger's and Argo Rollouts' providers send them."""

    def __init__(self, url):
        self._url = url

    def query(self, expression):
        """Return the values of a vector."""
        text = urllib.parse.urlencode({"query": re.sub(r"\s+", " ", expression)})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{text}", timeout=60) as response:
            return [float(each["value"][1]) for each in json.load(response)["data"]["result"]]


def build_service(name, app, *, port, target_port):
    """Build a Service as Flagger does (pkg/router/kubernetes_default.go)."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "type": "ClusterIP",
            "selector": {"app": app},
            "ports": [{"name": "http", "protocol": "TCP", "port": port, "targetPort": target_port}],
        },
    }


class Flagger:
    """Flagger for one Canary. `advance` is a turn of its scheduler, and gives the phase after it."""

    def __init__(self, api, canary, templates=(), prometheus=None):
        self._api, self._prometheus = api, prometheus
        self._templates = {each["metadata"]["name"]: each["spec"]["query"] for each in templates}
        self._spec, self.namespace = canary["spec"], canary["metadata"]["namespace"]
        self.apex = self._spec["service"].get("name") or self._spec["targetRef"]["name"]
        self.primary, self.canary = f"{self.apex}-primary", f"{self.apex}-canary"
        kind, _, version = self._spec["provider"].partition(":")
        self._plural, self._version = (ROUTES if kind == "gatewayapi" else SPLITS), version
        self.phase, self.failed_checks, self.values = "Progressing", 0, {}

    # --- the router

    def reconcile(self):
        """Create the Services and the object of the mesh."""
        self.create_services()
        self.create_route()

    def create_services(self):
        """Create the Services for clients, for the primary and for the canary."""
        service, target = self._spec["service"], self._spec["targetRef"]["name"]
        for name, app in ((self.primary, f"{target}-primary"), (self.canary, target), (self.apex, f"{target}-primary")):
            body = build_service(
                name, app, port=service["port"], target_port=service.get("targetPort", service["port"])
            )
            self._api.send("POST", "services", "v1", self.namespace, body=body)

    def create_route(self):
        """Create the object of the mesh, with all traffic for the primary."""
        metadata = {"name": self.apex, "namespace": self.namespace}
        kind = "HTTPRoute" if self._plural == ROUTES else "TrafficSplit"
        head = {"apiVersion": f"{GROUPS[self._plural]}/{self._version}", "kind": kind, "metadata": metadata}
        body = {**head, "spec": self._build_spec(100, 0)}
        self._api.send("POST", self._plural, self._version, self.namespace, body=body)

    def _build_spec(self, primary, canary):
        if self._plural == SPLITS:
            weights = ((self.canary, canary), (self.primary, primary))
            backends = [{"service": name, "weight": self._render(weight)} for name, weight in weights]
            return {"service": self.apex, "backends": backends}
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [self._build_reference(self.primary, primary), self._build_reference(self.canary, canary)],
        }
        return {"parentRefs": self._spec["service"]["gatewayRefs"], "rules": [rule]}

    def _render(self, weight):
        return str(weight) if self._version == "v1alpha1" else weight  # there, it is a Quantity

    def _build_reference(self, name, weight):
        return {"group": "", "kind": "Service", "name": name, "port": self._spec["service"]["port"], "weight": weight}

    def _get(self):
        return self._api.send("GET", self._plural, self._version, self.namespace, self.apex)

    def get_weights(self):
        """Read the weights of primary and canary."""
        spec = self._get()["spec"]
        pairs = [(each["service"], each["weight"]) for each in spec.get("backends", ())]
        pairs += [(each["name"], each["weight"]) for rule in spec.get("rules", ()) for each in rule["backendRefs"]]
        weights = {name: int(weight) for name, weight in pairs}
        return weights[self.primary], weights[self.canary]

    def check_status(self):
        """Raise NotReadyError for a route that the mesh has not accepted yet, in its current generation."""
        route = self._get()
        generation = route["metadata"]["generation"]
        for wanted in route["spec"].get("parentRefs", ()):
            for parent in (route.get("status") or {}).get("parents", ()):
                if parent["parentRef"] != wanted:  # as reflect.DeepEqual
                    continue
                for condition in parent["conditions"]:
                    is_late = condition["status"] != "True" or condition["observedGeneration"] < generation
                    if condition["type"] == "Accepted" and is_late:
                        raise NotReadyError(str(condition))

    def set_weights(self, primary, canary):
        """Replace the object with one that has these weights."""
        found = self._get()
        body = {**found, "spec": {**found["spec"], **self._build_spec(primary, canary)}}
        self._api.send("PUT", self._plural, self._version, self.namespace, self.apex, body)

    # --- the scheduler

    def advance(self):
        """Do one turn; after an error, the next turn tries again."""
        try:
            self.check_status()
            self._advance()
        except (NotReadyError, ConflictError):
            pass
        return self.phase

    def _advance(self):
        """Check the metrics, then move the weights, promote, or roll back."""
        primary, canary = self.get_weights()
        analysis = self._spec["analysis"]
        if self.phase == "Promoting":
            self.set_weights(100, 0)
            self.phase = "Finalising"
        elif self.phase == "Finalising":
            self.phase = "Succeeded"
        elif canary and not self.check_metrics():
            self.failed_checks += 1
            if self.failed_checks >= analysis["threshold"]:
                self.set_weights(100, 0)
                self.phase = "Failed"
        elif canary < analysis["maxWeight"]:
            self.set_weights(primary - analysis["stepWeight"], canary + analysis["stepWeight"])
        else:
            self.phase = "Promoting"

    def check_metrics(self):
        """Run the queries; return whether all have a value that is in its range."""
        for metric in self._spec["analysis"]["metrics"]:
            values = self._prometheus.query(self._render_query(metric)) if self._prometheus else [0.0]
            self.values[metric["name"]] = values
            if not values or math.isnan(values[-1]) or values[-1] > metric["thresholdRange"]["max"]:
                return False
        return True

    def _render_query(self, metric):
        values = {
            "namespace": self.namespace,
            "target": self._spec["targetRef"]["name"],
            "service": self.apex,
            "interval": metric["interval"],
        }
        query = self._templates[metric["templateRef"]["name"]]
        return re.sub(r"\{\{ (\w+) \}\}", lambda found: values[found[1]], query)


class RolloutBySmi:
    """Argo Rollouts with `trafficRouting.smi`."""

    def __init__(self, api, rollout, *, version="v1alpha1"):
        self._api, self._version = api, version
        self._namespace = rollout["metadata"]["namespace"]
        self._strategy = rollout["spec"]["strategy"]["canary"]
        smi = self._strategy["trafficRouting"]["smi"]
        self._root = smi.get("rootService") or self._strategy["stableService"]
        self._name = smi.get("trafficSplitName") or rollout["metadata"]["name"]

    @property
    def weights(self):
        """The weights of its steps."""
        return [step["setWeight"] for step in self._strategy["steps"] if "setWeight" in step]

    def set_weight(self, weight):
        """Create the TrafficSplit, or patch it with what has changed."""
        pairs = ((self._strategy["canaryService"], weight), (self._strategy["stableService"], 100 - weight))
        render = str if self._version == "v1alpha1" else int
        backends = [{"service": name, "weight": render(each)} for name, each in pairs]
        found = self._api.send("GET", SPLITS, self._version, self._namespace, self._name)
        if found is not None:
            patch = {"spec": {"backends": backends}}
            self._api.send("PATCH", SPLITS, self._version, self._namespace, self._name, patch, MERGE_PATCH)
            return
        body = {
            "apiVersion": f"{GROUPS[SPLITS]}/{self._version}",
            "kind": "TrafficSplit",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {"service": self._root, "backends": backends},
        }
        self._api.send("POST", SPLITS, self._version, self._namespace, body=body)


class RolloutByRoute:
    """Argo Rollouts with the plugin argoproj-labs/gatewayAPI."""

    def __init__(self, api, rollout):
        self._api = api
        self._strategy = rollout["spec"]["strategy"]["canary"]
        settings = self._strategy["trafficRouting"]["plugins"]["argoproj-labs/gatewayAPI"]
        self._name, self._namespace = settings["httpRoute"], settings["namespace"]

    @property
    def weights(self):
        """The weights of its steps."""
        return [step["setWeight"] for step in self._strategy["steps"] if "setWeight" in step]

    def _update(self, change):
        """Change the route, again after a conflict, as `retry.RetryOnConflict` does."""
        for _ in range(RETRIES):
            route = copy.deepcopy(self._api.send("GET", ROUTES, "v1", self._namespace, self._name))
            change(route)
            try:
                self._api.send("PUT", ROUTES, "v1", self._namespace, self._name, route)
            except ConflictError:
                continue
            return
        raise AssertionError("the route changes too often")

    def set_weight(self, weight):
        """Set the weights of both backends, and the label of a route that is managed."""

        def change(route):
            for rule in route["spec"]["rules"]:
                if len(rule["backendRefs"]) == 1:
                    continue  # a rule of set_header
                for reference in rule["backendRefs"]:
                    is_canary = reference["name"] == self._strategy["canaryService"]
                    reference["weight"] = weight if is_canary else 100 - weight
            labels = route["metadata"].setdefault("labels", {})
            labels["rollouts.argoproj.io/gatewayapi-canary"] = "in-progress"

        self._update(change)

    def set_header(self, name, value):
        """Add a rule that sends requests with this header to the canary."""

        def change(route):
            (source,) = route["spec"]["rules"]
            (reference,) = [each for each in source["backendRefs"] if each["name"] == self._strategy["canaryService"]]
            headers = [{"name": name, "type": "Exact", "value": value}]
            wanted = source.get("matches") or [{}]
            matches = [{**match, "headers": [*match.get("headers", ()), *headers]} for match in wanted]
            backend = {key: reference[key] for key in ("name", "port")} | {"group": "", "kind": "Service"}
            rule = {"name": "by-header", "matches": matches, "filters": [], "backendRefs": [backend]}
            route["spec"]["rules"].append(rule)

        self._update(change)
