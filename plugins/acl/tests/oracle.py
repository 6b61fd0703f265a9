"""A slow, direct reading of the rules: who may send what to whom, from the objects as they were written.

Takes plain dicts of Kubernetes objects and imports nothing of the mesh. Written from the rules' text, not from the
code that they are held against.
"""

import re


def admits(objects, client, service, method, path, headers):
    """Say whether a request is let in, and by what rules: a pair of the answer and the names of what decided."""
    return Reading(objects).admits(client, service, method, path, headers)


class Reading:
    def __init__(self, objects):
        self.objects = objects
        self.decided = set()

    def all_of(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind, name):
        found = [each for each in self.all_of(kind) if each["metadata"]["name"] == name]
        return found[0] if found else None

    def admits(self, client, service, method, path, headers):
        self.request = (method, path.partition("?")[0], headers)
        self.is_ambiguous = re.search(r"//|/\.\.?(/|$)|%2[eEfF]|%5[cC]|%00", self.request[1]) is not None
        if self.is_ambiguous and self.routes_by_path(service, set()):
            self.decided.add("ambiguous path")
            return False, self.decided
        leaves = self.find_leaves(service)
        if not leaves:
            self.decided.add("empty split")
            return False, self.decided
        served = [leaf for leaf in sorted(leaves) if self.pods_behind(leaf)]
        return all(self.leaf_admits(client, leaf) for leaf in served or sorted(leaves)), self.decided

    def pods_behind(self, service):
        return [
            pod
            for pod in self.all_of("Pod")
            if pod["metadata"]["labels"].get("app") == service and pod["status"]["phase"] == "Running"
        ]

    # --- splits

    def splits_of(self, service):
        found = [each for each in self.all_of("TrafficSplit") if each["spec"]["service"] == service]
        return sorted(found, key=lambda each: (not each["spec"].get("matches", ()), each["metadata"]["name"]))

    def leads_into_loop(self, split, way):
        for backend in split["spec"]["backends"]:
            name = backend["service"]
            if name in way:
                return True
            if any(self.leads_into_loop(below, (*way, name)) for below in self.splits_of(name)):
                return True
        return False

    def usable_splits(self, service):
        for split in self.splits_of(service):
            groups = [self.one("HTTPRouteGroup", each["name"]) for each in split["spec"].get("matches", ())]
            if not self.leads_into_loop(split, (service,)) and None not in groups:
                yield split, groups

    def usable_backends(self, split):
        for backend in split["spec"]["backends"]:
            if self.one("Service", backend["service"]) is not None and backend["weight"] > 0:
                yield backend["service"]

    def routes_by_path(self, service, seen):
        """Whether any split that can be reached from a service looks at paths."""
        for split, groups in self.usable_splits(service):
            if any(match.get("pathRegex") for group in groups for match in group["spec"]["matches"]):
                return True
            if any(self.routes_by_path(below, seen) for below in self.usable_backends(split)):
                return True
            if not groups:
                break
        return False

    def find_leaves(self, service):
        for split, groups in self.usable_splits(service):
            if groups and not any(self.group_holds(group) for group in groups):
                continue
            self.decided.add("split with matches" if groups else "split")
            leaves = set()
            for backend in self.usable_backends(split):
                leaves |= self.find_leaves(backend)
            return leaves
        return {service}

    # --- matches

    def group_holds(self, group, names=()):
        return any(self.match_holds(match) for match in group["spec"]["matches"] if not names or match["name"] in names)

    def match_holds(self, match):
        method, path, headers = self.request
        if match.get("pathRegex") and re.match(match["pathRegex"], path) is None:
            return False
        if match.get("methods") and "*" not in match["methods"] and method not in match["methods"]:
            return False
        return all(
            name in headers and re.search(pattern, headers[name]) is not None
            for each in match.get("headers", ())
            for name, pattern in each.items()
        )

    # --- targets

    def account_of(self, address):
        """The service accounts that stand behind an address; more than one tells nothing unless all are allowed."""
        pods = [
            pod
            for pod in self.all_of("Pod")
            if pod["status"]["podIP"] == address and pod["status"]["phase"] not in ("Succeeded", "Failed")
        ]
        return {(pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]) for pod in pods}

    def leaf_admits(self, client, leaf):
        service = self.one("Service", leaf)
        target_port = service["spec"]["ports"][0]["targetPort"]
        accounts = {pod["spec"]["serviceAccountName"] for pod in self.pods_behind(leaf)}
        granted = False
        for target in self.all_of("TrafficTarget"):
            destination = target["spec"]["destination"]
            if destination["name"] in accounts and self.target_grants(target, client, target_port):
                kinds = {each["kind"] for each in target["spec"].get("rules", ())}
                self.decided.add("target with " + "+".join(sorted(kinds)))
                granted = True
        return granted

    def target_grants(self, target, client, target_port):
        spec = target["spec"]
        if "port" in spec["destination"] and int(spec["destination"]["port"]) != target_port:
            self.decided.add("destination port")
            return False
        callers = {(each["namespace"], each["name"]) for each in spec["sources"]}
        who = self.account_of(client)
        if not who or not who <= callers:
            self.decided.add("source")
            return False
        rules = [
            (rule["kind"], rule.get("matches", ()), self.one(rule["kind"], rule["name"]))
            for rule in spec.get("rules", ())
        ]
        for kind, names, found in rules:
            if found is None:
                self.decided.add("missing rule")
                return False
            known = {match["name"] for match in found["spec"].get("matches", ())} if kind == "HTTPRouteGroup" else set()
            if not set(names) <= known:
                self.decided.add("missing match")
                return False
        routes = [found for kind, _, found in rules if kind == "TCPRoute"]
        ports = [set(route["spec"].get("matches", {}).get("ports", ())) for route in routes]
        if ports and all(ports) and target_port not in set().union(*ports):
            self.decided.add("route port")
            return False
        groups = [(found, names) for kind, names, found in rules if kind == "HTTPRouteGroup"]
        if not groups:
            return not rules or bool(routes)
        matches = [
            match
            for group, names in groups
            for match in group["spec"]["matches"]
            if not names or match["name"] in names
        ]
        is_everything = any(
            not match.get("pathRegex")
            and not match.get("headers")
            and (not match.get("methods") or "*" in match["methods"])
            for match in matches
        )
        if is_everything:
            return True
        if self.is_ambiguous and any(match.get("pathRegex") for match in matches):
            self.decided.add("ambiguous path")
            return False
        return any(self.match_holds(match) for match in matches)
