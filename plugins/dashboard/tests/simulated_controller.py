"""A controller that invents a mesh: the dashboard's pages, and plausible answers of the API. For work on the page:

    .venv/bin/python plugins/dashboard/tests/simulated_controller.py --services 2000 --edges 500 --port 9000

Tests start it in their own process. The documents are made of the structs of the API, so they have its shape.
"""

import argparse
import asyncio
import math
import random
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import msgspec
from maesh_dashboard.controller import FOLDER, list_pages

from maesh_core.controller.api.pages import PAGE_HEADERS
from maesh_core.model.messages import ControllerReport, NodeReport, ServiceReport
from maesh_core.model.traffic import (
    BranchTraffic,
    EdgeTraffic,
    Latency,
    MissingController,
    NodeTraffic,
    RuleTraffic,
    ServerTraffic,
    ServiceTraffic,
    TrafficReport,
    Window,
)
from maesh_core.plugin import MeshCondition, PageRequest

REVISION = "5e1f0c2ab9d34f77.42"
CALLS = (  # caller, service, requests per second, share of failures
    ("ingress", "web", 140.0, 0.0),
    ("ingress", "api", 61.0, 0.001),
    ("web", "catalog", 88.0, 0.0),
    ("web", "cart", 37.0, 0.0),
    ("web", "search", 24.0, 0.0),
    ("api", "catalog", 19.0, 0.0),
    ("api", "orders", 23.0, 0.18),
    ("cart", "prices", 41.0, 0.0),
    ("orders", "payments", 12.0, 0.27),
    ("orders", "stock", 12.0, 0.0),
    ("search", "catalog", 9.0, 0.0),
    ("mailer", "accounts", 2.4, 0.0),
    ("api", "accounts", 15.0, 0.0),
    ("payments", "ledger", 9.0, 0.0),
)
NAMES = tuple(dict.fromkeys(name for caller, service, *_ in CALLS for name in (caller, service) if name != "ingress"))
SPLITS = {"catalog": (("catalog-v1", 0.9), ("catalog-v2", 0.1))}
LOCKED = {"payments": "orders", "ledger": "payments", "accounts": "api"}
"""Services with access control, and the only caller that each allows."""
TIMEOUT = "the upstream did not respond in time"
MARKUP = "<img src=x onerror=\"document.title='owned'\">"


class Simulation:
    """An invented mesh. `services` and `edges` add plain ones up to these numbers."""

    def __init__(self, services=0, edges=0, *, seed=7):
        self.random = random.Random(seed)
        self.started = time.time() - 3600
        self.has_traffic = self.has_tap = self.has_acl = True
        self.tap_error = {}
        self.is_empty = self.is_idle = False
        self.elsewhere: tuple[NodeTraffic, ...] = ()
        self.missing: tuple[MissingController, ...] = ()
        self.paths = {}
        """What was encrypted, by service: none without encryption."""
        self.types = {}
        """The traffic types of services that are not HTTP."""
        self.status = 200
        self.conditions: tuple[MeshCondition, ...] = ()
        self.calls = list(CALLS)
        self.names = [*NAMES, "catalog-v1", "catalog-v2", "reports"]
        self.names += [f"service-{number:04}" for number in range(services - len(self.names))]
        plain = [name for name in self.names if name.startswith("service-")]
        while plain and len(self.calls) < edges:
            caller, service = self.random.sample(plain, 2)
            self.calls.append((caller, service, self.random.expovariate(0.1), 0.0))

    def namespace(self, name):
        return f"team-{int(name[-4:]) % 40:02}" if name.startswith("service-") else "shop"

    def key(self, name):
        return f"{self.namespace(name)}/{name}:80"

    def window(self, rate, failed, seconds, *, slow=1.0, reason=TIMEOUT):
        requests = int(rate * seconds)
        bad = int(requests * failed)
        base = 0.004 * slow
        return Window(
            seconds=seconds,
            requests=requests,
            rate=rate,
            success=1 - bad / requests if requests else None,
            codes={"2xx": requests - bad, **({"5xx": bad} if bad else {})} if requests else {},
            total=Latency(p50=base, p95=base * 4, p99=base * 11) if requests else Latency(),
            upstream=Latency(p50=base * 0.9, p95=base * 3.8, p99=base * 10) if requests else Latency(),
            retries=bad // 3,
            reasons={reason: bad} if bad else {},
            received_bytes=requests * 310,
            sent_bytes=requests * 5200,
        )

    def windows(self, rate, failed, **more):
        """Vary the rate slowly: the counters since the start are the integral of what it was."""
        age = 0.0 if self.is_idle else time.time() - self.started
        phase = 0.25 * rate
        now = rate * (1 + 0.3 * math.sin(age / 20 + phase)) if age else 0.0
        count = rate * (age - 6 * (math.cos(age / 20 + phase) - math.cos(phase)))
        total = self.window(count / age if age else 0.0, failed, age, **more)
        return {"last": self.window(now, failed, 60.0, **more), "total": total}

    def build_service(self, name):
        own = [call for call in self.calls if call[1] == name]
        rate = sum(call[2] for call in own)
        if name == "catalog-v1" or name == "catalog-v2":
            rate = 0.0
        failed = sum(call[2] * call[3] for call in own) / rate if rate else 0.0
        slow = {"orders": 9.0, "payments": 60.0, "search": 3.0}.get(name, 1.0)
        traffic = {
            "key": self.key(name),
            "namespace": self.namespace(name),
            "name": name,
            "port": "80",
            "traffic_type": "http",
            **self.windows(rate, failed, slow=slow),
            "servers": self.build_servers(name, rate, failed, slow),
            "callers": tuple(self.build_edge(*call) for call in own),
            "branches": tuple(
                BranchTraffic(
                    destination=f"{self.namespace(name)}/{name}:80/split/canary/{each}",
                    weight=weight,
                    **self.windows(rate * weight, 0.02 if each.endswith("v2") else 0),
                )
                for each, weight in SPLITS.get(name, ())
            ),
            "rules": (RuleTraffic(rule="rule/catalog/0", **self.windows(rate, failed)),) if name == "catalog" else (),
            "open_breakers": int(name == "prices"),
        }
        if name == "accounts":
            traffic["last"] = msgspec.structs.replace(
                traffic["last"], denied=31, reasons={"access denied: no TrafficTarget allows this client": 31}
            )
        return self.convert(ServiceTraffic(**self.encrypt(name, traffic)))

    def convert(self, service):
        """Count the requests of a service as connections or sessions, if it is one of TCP or UDP."""
        type_ = self.types.get(service.name)
        if type_ is None:
            return service
        failure = {"no connection": 3}

        def convert_window(window, reasons=failure):
            return Window(
                seconds=window.seconds,
                rate=window.rate,
                connections=window.requests,
                reasons=reasons,
                received_bytes=window.received_bytes,
                sent_bytes=window.sent_bytes,
            )

        def convert_part(part):
            return msgspec.structs.replace(part, last=convert_window(part.last), total=convert_window(part.total))

        return msgspec.structs.replace(
            service,
            traffic_type=type_,
            last=convert_window(service.last, {}),
            total=convert_window(service.total, {}),
            branches=tuple(map(convert_part, service.branches)),
            servers=tuple(map(convert_part, service.servers)),
            callers=tuple(map(convert_part, service.callers)),
            rules=tuple(map(convert_part, service.rules)),
        )

    def encrypt(self, name, traffic):
        """Add what was encrypted of a service's traffic, if the mesh has encryption."""
        if name not in self.paths:
            return traffic
        reasons = {"unreachable": self.paths[name]["clear"]} if "clear" in self.paths[name] else {}
        last = msgspec.structs.replace(traffic["last"], paths=self.paths[name], clear_reasons=reasons)
        callers = tuple(
            msgspec.structs.replace(each, last=msgspec.structs.replace(each.last, paths=self.paths[name]))
            for each in traffic["callers"]
        )
        return {**traffic, "last": last, "callers": callers}

    def build_servers(self, name, rate, failed, slow):
        number = self.names.index(name)
        return tuple(
            ServerTraffic(
                server=f"10.{number // 250}.{number % 250}.{index + 1}:8080",
                pod=f"{self.namespace(name)}/{name}-{index}",
                node=f"node-{index % 3 + 1}",
                is_set_aside=name == "payments" and index == 1,
                **self.windows(rate / 2, failed, slow=slow),
            )
            for index in range(2)
        )

    def address(self, caller):
        return "10.9.0.7" if caller == "ingress" else f"10.8.0.{self.names.index(caller) % 250}"

    def build_edge(self, caller, service, rate, failed):
        pods = () if caller == "ingress" else tuple(f"{self.namespace(caller)}/{caller}-{index}" for index in range(2))
        return EdgeTraffic(
            caller="Deployment/ingress@edge"
            if caller == "ingress"
            else f"Deployment/{caller}@{self.namespace(caller)}",
            account=f"{caller}@{self.namespace(caller)}",
            pods=pods,
            addresses=(self.address(caller),),
            service=self.key(service),
            **self.windows(rate, failed),
        )

    def traffic(self):
        nodes = [NodeTraffic(name=f"node-{number}", revision=REVISION, connections=40 + number) for number in (1, 2)]
        nodes.append(NodeTraffic(name="node-3", revision=None, error="no answer within 1 s"))
        names = () if self.is_empty else self.names
        return TrafficReport(
            at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            interval_s=60.0,
            nodes=(*nodes, *self.elsewhere),
            missing=self.missing,
            services=tuple(map(self.build_service, names)),
            refused={"400": 3, "404": 17},
        )

    def services(self):
        names = () if self.is_empty else self.names
        return [
            {
                **msgspec.to_builtins(
                    ServiceReport(
                        namespace=self.namespace(name),
                        name=name,
                        host=f"{name}.{self.namespace(name)}.maesh",
                        traffic_type=self.types.get(name, "http"),
                        ports=(),
                        errors=self.errors(name),
                        notices=(f"annotation retry-atempts: {MARKUP}; did you mean retry-attempts?",)
                        if name == "mailer"
                        else (),
                    )
                ),
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "entrypoint": 5000}],
            }
            for name in names
        ]

    def errors(self, name):
        return ("annotation retry-attempts: 'many' is not a number from 0",) if name == "reports" else ()

    def topology(self):
        services = {
            f"{name}@{self.namespace(name)}": {
                "name": name,
                "namespace": self.namespace(name),
                "annotations": {"maesh.containo.us/retry-attempts": "2"} if name in NAMES else {},
                "ports": [],
                "pods": [f"{name}-{index}@{self.namespace(name)}" for index in range(2)],
                "trafficTargets": [f"{name}@shop:callers-of-{name}@shop"] if name in LOCKED else [],
                "trafficSplits": ["canary@shop"] if name in SPLITS else [],
                "additions": {"acl": self.build_rules(name)} if name in LOCKED else {},
            }
            for name in self.names
        }
        targets = {
            f"{name}@shop:callers-of-{name}@shop": {
                "service": f"{name}@shop",
                "name": f"callers-of-{name}",
                "namespace": "shop",
                "sources": [{"serviceAccount": LOCKED[name], "namespace": "shop"}],
                "destination": {"serviceAccount": name, "namespace": "shop", "port": None},
                "rules": [{"kind": "HTTPRouteGroup", "name": f"{name}-routes", "matches": ["write"]}],
                "errors": [],
                "notices": [],
            }
            for name in LOCKED
        }
        return {"services": services, "pods": {}, "serviceTrafficTargets": targets, "trafficSplits": {}}

    def build_rules(self, name):
        grant = {"target": f"callers-of-{name}@shop", "sources": [self.address(LOCKED[name])]}
        if name == "ledger":
            grant["matches"] = [{"methods": ["GET"]}]
        return {"destinations": {self.key(name): [{"service": name, "grants": [grant]}]}}

    def configuration(self):
        routers, services = {}, {}
        for name in self.names:
            key = self.key(name)
            router = {"entrypoint": 5000, "hosts": [f"{name}.{self.namespace(name)}.maesh"], "service": key}
            services[key] = {"servers": [{"address": "10.0.0.1", "port": 8080}] * 2}
            if name in SPLITS:
                branch = f"{key}/split/canary"
                router["branches"] = [{"service": branch}]
                parts = [
                    {"service": f"{branch}/{each}", "weight": round(100 * weight)} for each, weight in SPLITS[name]
                ]
                services[branch] = {"parts": parts}
            if name in NAMES:
                router["middlewares"] = [f"{self.namespace(name)}/{name}/retry"]
            routers[key] = router
        middlewares = {f"shop/{name}/retry": {"kind": "retry", "settings": {"attempts": 2}} for name in NAMES}
        http = {"routers": routers, "services": services, "middlewares": middlewares}
        return {"revision": REVISION, "full": True, "plugins": [], "http": http, "removed": []}

    def nodes(self):
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        revisions = (REVISION, REVISION, "5e1f0c2ab9d34f77.40")
        return [
            NodeReport(name=f"node-{number}", ip=f"10.1.0.{number}", ready=True, revision=revision, last_seen=now)
            for number, revision in enumerate(revisions, 1)
        ]

    def controller(self):
        name = "maesh-controller-7d9f_1c2b3a4d"
        return ControllerReport(name=name, ready=True, leads=True, leader=name, revision=REVISION)

    def explain(self, query):
        given = {name: values[0] for name, values in query.items()}
        name = given["service"].partition(".")[0]
        if name not in self.names:
            return 404, f"the mesh knows no service {name} in namespace shop; did you mean web.shop?\n"
        is_admitted = name not in LOCKED or given["client"].startswith(LOCKED[name])
        steps = [
            f"client {given['client']}: pod shop/{given['client']}",
            f"service shop/{name}, port 80, traffic type http",
        ]
        steps.append(
            "acl: TrafficTarget allows it" if is_admitted else "denied: no TrafficTarget allows account web@shop"
        )
        servers = ("10.0.0.1:8080", "10.0.0.2:8080")
        return 200, {
            "client": given["client"],
            "service": f"shop/{name}",
            "port": 80,
            "trafficType": "http",
            "isAdmitted": is_admitted,
            "status": 200 if is_admitted else 403,
            "steps": steps,
            "destinations": [{"service": f"shop/{name}", "share": 1.0, "servers": servers}] if is_admitted else [],
        }

    def suggestions(self):
        """Build the document of the page Audit: a client that would be denied, one that is, and one without account."""
        denials = [
            *(build_denial("web", "payments", path=f"/charges/{number}", count=9 - number) for number in range(3)),
            build_denial("web", "payments", path=f"/{MARKUP}"),
            build_denial("mailer", "ledger", mode="enforce", reason="request"),
            build_denial("", "accounts"),
        ]
        yaml = f"# {MARKUP}\napiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\n"
        suggestion = {
            "name": "web-to-payments-1a2b3c",
            "namespace": "shop",
            "clients": [{"namespace": "shop", "serviceAccount": "web"}],
            "destination": {"namespace": "shop", "serviceAccount": "payments"},
            "trafficType": "http",
            "services": ["shop/payments:80"],
            "count": 25,
            "notes": ["it also opens shop/ledger:80: their pods have the same service account payments@shop"],
            "yaml": yaml,
        }
        reason = "the client has no service account that the mesh knows"
        left_out = [{"reason": reason, "count": 1, "example": "10.0.9.9 to shop/accounts:80: GET /"}]
        nodes = [{"name": "node-1", "since": "2026-01-01T09:00:00Z", "error": "it does not answer"}]
        report = {"since": "2026-01-01T09:00:00Z", "complete": False, "denials": denials, "nodes": nodes}
        return {"report": report, "suggestions": [suggestion], "leftOut": left_out, "allowed": 7, "more": 0}

    def record(self):
        caller, service, _, failed = self.random.choices(CALLS, weights=[call[2] for call in CALLS])[0]
        is_bad = self.random.random() < failed
        path = self.random.choice(("/", "/items/42", "/items?page=3", "/healthz", f"/{MARKUP}"))
        return {
            "kind": "http",
            "startedAt": time.time(),
            "durationS": self.random.expovariate(60),
            "client": "10.0.3.7",
            "source": f"shop/{caller}-0",
            "entrypoint": 5000,
            "protocol": "HTTP/1.1",
            "service": self.key(service),
            "destination": self.key(service),
            "server": "10.0.0.1:8080",
            "attempts": 1 + is_bad,
            "status": 504 if is_bad else 200,
            "grpcStatus": None,
            "reason": TIMEOUT if is_bad else "",
            "receivedBytes": 0,
            "sentBytes": 812,
            "upstreamS": 0.004,
            "method": self.random.choice(("GET", "GET", "POST")),
            "host": f"{service}.shop.maesh",
            "path": path,
        }


def build_denial(client, service, *, mode="audit", path="/", reason="client", count=1):
    return {
        "mode": mode,
        "service": f"shop/{service}:80",
        "destinations": [f"{service}@shop"],
        "client": {"namespace": "shop", "serviceAccount": client} if client else None,
        "address": "10.0.9.9",
        "trafficType": "http",
        "method": "GET",
        "path": path,
        "pathCut": False,
        "route": "",
        "reason": reason,
        "trafficTargets": [f"{client}-may-read@shop"] if reason == "request" else [],
        "count": count,
        "first": "2026-01-01T10:00:00Z",
        "last": "2026-01-01T11:00:00Z",
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    simulation: Simulation

    def log_message(self, format, *arguments):  # noqa: A002 - the name in the library
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        page = next((each for each in PAGES if each.path == url.path), None)
        if page is not None:
            fields = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
            response = asyncio.run(page.respond(PageRequest(fields=fields)))
            self.answer(200, response.body, {"Content-Type": response.content_type, **PAGE_HEADERS, **response.headers})
        elif url.path == "/api/tap" and self.simulation.has_tap:
            self.stream_records()
        else:
            status, document = self.find_document(url.path, parse_qs(url.query))
            body = document.encode() if isinstance(document, str) else msgspec.json.encode(document)
            self.answer(status, body, {"Content-Type": "application/json", "Cache-Control": "no-store"})

    def find_document(self, path, query):
        simulation = self.simulation
        if simulation.status != 200:
            return simulation.status, "not now\n"
        if path == "/api/explain":
            return simulation.explain(query)
        found = {
            "/api/services": simulation.services,
            "/api/topology/current": simulation.topology,
            "/api/configuration/current": simulation.configuration,
            "/api/status/nodes": simulation.nodes,
            "/api/status/controller": simulation.controller,
            "/api/objects": list,
            "/api/conditions": lambda: simulation.conditions,
            **({"/api/acl/suggestions": simulation.suggestions} if simulation.has_acl else {}),
            **({"/api/traffic": simulation.traffic} if simulation.has_traffic else {}),
        }.get(path)
        return (200, found()) if found else (404, "not found; the paths are /api/services\n")

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream_records(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            if self.simulation.tap_error:
                self.wfile.write(msgspec.json.encode(self.simulation.tap_error) + b"\n")
            for number in range(100_000):
                line = {"dropped": 5} if number % 50 == 49 else self.simulation.record()
                self.wfile.write(msgspec.json.encode(line) + b"\n")
                self.wfile.flush()
                time.sleep(0.03)
        except OSError:
            pass


PAGES = list_pages(FOLDER)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, simulation, port=0):
        super().__init__(("127.0.0.1", port), type("BoundHandler", (Handler,), {"simulation": simulation}))
        self.simulation = simulation

    def handle_error(self, request, client_address):
        """Ignore clients that left."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


def main():
    parser = argparse.ArgumentParser(description="Serve the dashboard with an invented mesh.")
    for name, default in (("port", 9000), ("services", 0), ("edges", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    server = Server(Simulation(given.services, given.edges), given.port)
    print(server.url, flush=True)  # noqa: T201
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
