"""A case for each kind of finding of `maesh check`: manifests and flags, or the text of what no manifest provokes."""

from typing import NamedTuple

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop%s}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata: {name: %(name)s, namespace: shop, labels: {app: %(name)s}}
spec: {serviceAccountName: %(name)s, containers: [{name: a, ports: [{containerPort: 8080}]}]}
status: {podIP: %(address)s, conditions: [{type: Ready, status: "True"}]}
---
"""
WEB_POD = POD % {"name": "web", "address": "10.0.0.1"}
CLIENT_POD = POD % {"name": "client", "address": "10.0.0.2"}
WEB = SERVICE % "" + WEB_POD
BARE = "apiVersion: v1\nkind: Service\nmetadata: {name: bare, namespace: shop}\nspec: {ports: [{port: 80}]}\n---\n"


def write_service(annotations: str) -> str:
    """Write the Service `web` with annotations, and its pod."""
    return SERVICE % f", annotations: {{{annotations}}}" + WEB_POD


def write_route(rules: str, *, parent: str = '{group: "", kind: Service, name: web, port: 80}', more: str = "") -> str:
    """Write an HTTPRoute of the Service `web`."""
    return f"""---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: route, namespace: shop}}
spec:
  parentRefs: [{parent}]
  rules: [{rules}]{more}
"""


def write_split(name: str, backends: str, *, service: str = "web", more: str = "") -> str:
    """Write a TrafficSplit."""
    return f"""---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{name: {name}, namespace: shop}}
spec: {{service: {service}, backends: [{backends}]{more}}}
"""


def write_group(matches: str) -> str:
    """Write an HTTPRouteGroup."""
    return f"""---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: group, namespace: shop}}
spec: {{matches: [{matches}]}}
"""


def write_target(
    name: str = "target",
    *,
    source: str = "{kind: ServiceAccount, name: client, namespace: shop}",
    destination: str = "{kind: ServiceAccount, name: web, namespace: shop}",
    rules: str = "rules: [{kind: HTTPRouteGroup, name: group}]",
) -> str:
    """Write a TrafficTarget."""
    return f"""---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: {name}, namespace: shop}}
spec:
  destination: {destination}
  sources: [{source}]
  {rules}
"""


def write_nested_splits(count: int) -> str:
    """Write a split of `web` whose two backends have so many splits each, by different paths and by a header."""
    services = [WEB, *(BARE.replace("bare", name) for name in ("bare", "one", "two"))]
    splits = [write_split("split", "{service: one, weight: 1}, {service: two, weight: 1}")]
    for service, condition in (("one", "pathRegex: /%d"), ("two", "headers: [{x-a: '%d'}]")):
        for number in range(count):
            name = f"{service}-{number}"
            splits.append(write_group(f"{{name: a, {condition % number}}}").replace("name: group", f"name: {name}"))
            matches = f", matches: [{{kind: HTTPRouteGroup, name: {name}}}]"
            splits.append(write_split(name, "{service: bare, weight: 1}", service=service, more=matches))
    return "".join((*services, *splits))


def write_named(name: str) -> str:
    """Write the Service `web` with another name."""
    return SERVICE.replace("name: web, namespace", f"name: {name}, namespace") % "" + WEB_POD


def write_pod(name: str) -> str:
    """Write the Service `web`, whose pod has this name."""
    return SERVICE % "" + WEB_POD.replace("name: web, namespace", f"name: {name}, namespace")


class Case(NamedTuple):
    """Manifests in which a finding is; `line` is where, from 1, if it is checked. `flags` name enabled plugins."""

    manifests: str
    flags: tuple[str, ...] = ()
    line: int = 0
    subject: str = ""


TO_WEB = "{name: web, port: 80}"
GROUP = write_group("{name: read, pathRegex: /a, methods: [GET]}")
ACL = ("acl",)
EGRESS = ("egress",)
FAULTY = ("faulty",)
"""The plugin of faulty_plugin.py."""
SPLIT_OF_WEB = "{service: web, weight: 1}"

CASES: dict[str, Case] = {
    "MSH102": Case("kind: [\n", line=2),
    "MSH103": Case("- a list\n- of texts\n", line=1),
    "MSH104": Case("apiVersion: v1\nkind: Service\nmetadata: {name: Web}\nspec: {ports: [{port: 80}]}\n"),
    "MSH105": Case(WEB + SERVICE % "", subject="Service web@shop"),
    "MSH106": Case(WEB + write_target(), subject="TrafficTarget target@shop"),
    "MSH107": Case("# nothing\n"),
    "MSH108": Case(WEB + write_split("split", SPLIT_OF_WEB, more=", extra: 1"), line=18),
    "MSH109": Case("- a list\n---\n" * 101),
    "MSH110": Case(WEB + GROUP, subject="HTTPRouteGroup group@shop"),
    "MSH111": Case(write_pod("raising"), FAULTY, subject="Pod raising@shop"),
    "MSH198": Case(write_pod("broken"), FAULTY, subject="Pod broken@shop"),
    "MSH199": Case(write_pod("odd"), FAULTY, subject="Pod odd@shop"),
    "MSH201": Case(write_service('maesh.containo.us/retry-attempts: "three"'), line=4, subject="Service web@shop"),
    "MSH202": Case(write_service('maesh.containo.us/retry-atempts: "3"'), line=4),
    "MSH203": Case(write_service('mesh.containo.us/retry-attempts: "3"'), line=4),
    "MSH204": Case(write_service('maesh.containo.us/81.scheme: "h2c"'), line=4),
    "MSH205": Case(write_service("maesh.containo.us/traffic-type: tcp, maesh.containo.us/retry-attempts: '3'"), line=4),
    "MSH206": Case(write_service("maesh.containo.us/traffic-type: http3"), line=4),
    "MSH207": Case(write_service("maesh.containo.us/traffic-type: udp")),
    "MSH208": Case(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: ["
        + ", ".join(f"{{name: p{number}, port: {number}}}" for number in range(1, 102))
        + "]}\n"
    ),
    "MSH209": Case(WEB.replace("port: 80,", "port: 80, appProtocol: spdy,"), line=5),
    "MSH210": Case(
        WEB.replace("port: 80,", "port: 53, protocol: UDP, name: dns}, {port: 80,").replace("name: http, ", "")
    ),
    "MSH212": Case(
        write_service("maesh.containo.us/encryption: 'off'")
        + "apiVersion: v1\nkind: Namespace\n"
        + "metadata: {name: shop, annotations: {maesh.containo.us/encryption: strict}}\n",
        ("mtls",),
        subject="Service web@shop",
    ),
    "MSH213": Case(SERVICE % "", line=5),
    "MSH214": Case(
        WEB
        + """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: other, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
"""
    ),
    "MSH215": Case(
        WEB.replace("selector:", "clusterIP: 10.1.0.1, selector:")
        + (SERVICE % "").replace("name: web,", "name: other,").replace("selector:", "clusterIP: 10.1.0.1, selector:")
    ),
    "MSH301": Case(
        WEB
        + write_route(
            f"{{matches: [{{path: {{value: /a}}}}], backendRefs: [{TO_WEB}]}},"
            f" {{matches: [{{path: {{value: /a}}}}], backendRefs: [{TO_WEB}]}}"
        ),
        line=20,
        subject="HTTPRoute route@shop",
    ),
    "MSH302": Case(
        WEB
        + write_route(
            "{matches: [{path: {type: RegularExpression, value: '/a.*'}}, {path: {value: /ab}}],"
            f" backendRefs: [{TO_WEB}]}}"
        ),
        line=20,
    ),
    "MSH303": Case(
        WEB
        + write_route(f"{{matches: [{{path: {{type: RegularExpression, value: 'api/.*'}}}}], backendRefs: [{TO_WEB}]}}")
    ),
    "MSH304": Case(WEB + BARE + write_route(f"{{backendRefs: [{TO_WEB}, {{name: bare, port: 80}}]}}")),
    "MSH305": Case(WEB + BARE + write_split("split", "{service: bare, weight: 0}"), line=23),
    "MSH306": Case(
        WEB
        + BARE.replace("spec: {", "spec: {selector: {app: web}, ")
        + write_route("{backendRefs: [{name: web, port: 80, weight: 100000}, {name: bare, port: 80}]}")
    ),
    "MSH401": Case(WEB + write_split("split", SPLIT_OF_WEB, service="wbe")),
    "MSH402": Case(WEB + write_split("split", SPLIT_OF_WEB, service="web.other.svc")),
    "MSH403": Case(
        WEB.replace("name: web, namespace: shop", "name: web, namespace: shop, labels: {app: maesh}", 1)
        + write_split("split", SPLIT_OF_WEB)
    ),
    "MSH404": Case(WEB + BARE + write_split("split", "{service: web-v1, weight: 1}, {service: bare, weight: 1}")),
    "MSH405": Case(WEB + BARE + write_split("split", "{service: bare, weight: 1}", more=", matches: [{name: x}]")),
    "MSH406": Case(WEB + write_split("split", SPLIT_OF_WEB)),
    "MSH407": Case(write_nested_splits(10), subject="TrafficSplit split@shop"),
    "MSH408": Case(WEB + write_group("{name: read, pathRegex: '/a('}")),
    "MSH409": Case(
        WEB
        + BARE
        + GROUP
        + write_split("a", "{service: bare, weight: 1}", more=", matches: [{name: group}]")
        + write_split("b", "{service: bare, weight: 1}", more=", matches: [{name: group}]"),
        subject="TrafficSplit b@shop",
    ),
    "MSH501": Case(
        WEB + CLIENT_POD + GROUP + write_target(destination="{kind: ServiceAccount, name: wbe, namespace: shop}"), ACL
    ),
    "MSH502": Case(WEB + GROUP + write_target(), ACL, subject="TrafficTarget target@shop"),
    "MSH503": Case(WEB + GROUP + write_target(source=""), ACL),
    "MSH504": Case(WEB + CLIENT_POD + write_target(rules=""), ACL, subject="TrafficTarget target@shop"),
    "MSH505": Case(write_service("maesh.containo.us/traffic-type: tcp") + CLIENT_POD + GROUP + write_target(), ACL),
    "MSH506": Case(
        WEB
        + CLIENT_POD
        + GROUP
        + write_target().replace("name: target, namespace: shop", "name: target, namespace: other"),
        ACL,
        subject="TrafficTarget target@other",
    ),
    "MSH507": Case(WEB + CLIENT_POD + write_target(), ACL),
    "MSH508": Case(WEB + CLIENT_POD + POD % {"name": "other", "address": "10.0.0.2"} + GROUP + write_target(), ACL),
    "MSH509": Case(WEB + write_split("split", SPLIT_OF_WEB, more=", extra: 1"), ACL),
    "MSH510": Case(WEB, ACL, line=2, subject="Service web@shop"),
    "MSH511": Case(
        WEB + CLIENT_POD + GROUP + write_target("a") + write_target("b"), ACL, subject="TrafficTarget b@shop"
    ),
    "MSH512": Case(WEB + CLIENT_POD + GROUP + write_target(), ACL, subject="HTTPRouteGroup group@shop"),
    "MSH513": Case(write_service("maesh.containo.us/acl-mode: audit") + CLIENT_POD + GROUP + write_target(), ACL),
    "MSH514": Case(
        WEB
        + CLIENT_POD
        + GROUP
        + "---\napiVersion: v1\nkind: Namespace\n"
        + "metadata: {name: shop, annotations: {maesh.containo.us/acl-mode: audit}}\n"
        + write_target(),
        ACL,
    ),
    "MSH601": Case(WEB + write_route("{}", parent='{group: "", kind: Service, name: wbe}')),
    "MSH602": Case(WEB + write_route("{}", parent="{kind: Service, name: web}")),
    "MSH603": Case(
        WEB + write_route(f"{{backendRefs: [{TO_WEB}]}}", parent='{group: "", kind: Service, name: web, port: 81}')
    ),
    "MSH604": Case(
        WEB
        + write_route(f"{{backendRefs: [{TO_WEB}]}}")
        + write_route(f"{{backendRefs: [{TO_WEB}]}}").replace("HTTPRoute", "GRPCRoute")
    ),
    "MSH605": Case(
        WEB.replace("{name: http, port: 80,", "{name: other, port: 81, targetPort: 8080}, {name: http, port: 80,")
        + write_route(f"{{backendRefs: [{TO_WEB}]}}", parent='{group: "", kind: Service, name: web}')
        + write_route(f"{{backendRefs: [{TO_WEB}]}}").replace("HTTPRoute", "GRPCRoute")
    ),
    "MSH606": Case(WEB + write_route("{backendRefs: [{name: wbe, port: 80}]}"), line=20),
    "MSH607": Case(WEB + write_route(f"{{filters: [{{type: Foo}}], backendRefs: [{TO_WEB}]}}"), line=20),
    "MSH608": Case(WEB + write_route(f"{{matches: [{{path: {{value: a}}}}], backendRefs: [{TO_WEB}]}}"), line=20),
    "MSH609": Case(WEB + write_route(f"{{backendRefs: [{TO_WEB}]}}", more="\n  hostnames: [a.example]")),
    "MSH217": Case(write_named("raising"), FAULTY, subject="Service raising@shop"),
    "MSH298": Case(write_named("broken"), FAULTY, subject="Service broken@shop"),
    "MSH299": Case(write_named("odd"), FAULTY, subject="Service odd@shop"),
    "MSH307": Case(write_named("crowded"), FAULTY, subject="Pod web@shop"),
    "MSH218": Case(
        "apiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: shop}\n"
        "spec: {type: ExternalName, externalName: api.example.com, ports: [{port: 443}]}\n",
        line=4,
        subject="Service out@shop",
    ),
    "MSH701": Case(
        "apiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: shop}\n"
        "spec: {type: ExternalName, externalName: api.example.org, ports: [{port: 443}]}\n",
        EGRESS,
        subject="Service out@shop",
    ),
    "MSH702": Case(
        """
apiVersion: v1
kind: Service
metadata: {name: out, namespace: shop}
spec: {ports: [{name: https, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: out-1, namespace: shop, labels: {kubernetes.io/service-name: out}}
addressType: FQDN
ports: [{name: https, port: 443}]
endpoints: [{addresses: [api.example.org]}]
""",
        EGRESS,
        subject="EndpointSlice out-1@shop",
    ),
    "MSH801": Case(write_service('maesh.containo.us/ratelimit-period: "1s"'), line=4, subject="Service web@shop"),
    "MSH802": Case(
        write_service('maesh.containo.us/ratelimit-average: "5", maesh.containo.us/ratelimit-source: account')
    ),
    "MSH803": Case(write_service('maesh.containo.us/ratelimit-average: "5", maesh.containo.us/ratelimit-store: redis')),
    "MSH804": Case(
        write_service("maesh.containo.us/ratelimit-limits: 'fast: 10000 burst=100 store=redis'"),
        subject="Service web@shop",
    ),
    "MSH811": Case(write_service('maesh.containo.us/limit-concurrency-source: "ip"'), line=4),
    "MSH812": Case(
        write_service(
            'maesh.containo.us/limit-concurrency: "5", maesh.containo.us/limit-concurrency-source: "claim:sub"'
        ),
    ),
    "MSH821": Case(
        write_service("maesh.containo.us/ratelimit-limits: 'tenant: 50/s source=ip,claim:tenant'"), ("jwt",), line=4
    ),
    "MSH610": Case(
        WEB + BARE + write_route(f"{{backendRefs: [{TO_WEB}]}}") + write_split("split", "{service: bare, weight: 1}")
    ),
}

TEXTS: dict[str, tuple[str, str, bool]] = {
    "MSH211": ("Service", "'a.b' is not a DNS label, which a namespace must be", True),
    "MSH216": ("Service", "port 80 TCP appears twice", True),
}
"""The kind of an object, a text about it, and whether it is an error. `check` refuses such manifests before this."""
