"""A cluster of two nodes on this machine that runs a release of the chart, and upgrades it as Kubernetes does.

The API server is that of the tests. Controllers and proxies are processes with the command lines, rights, tokens and
mounted files of the rendered objects. A pod has a loopback address. What Kubernetes' own parts would do is done here:
Services balance connections over ready pods, the kubelet mounts tokens and ConfigMaps, Deployments and DaemonSets
replace pods in the order that the chart asks for.
"""

import contextlib
import http.client
import itertools
import json
import re
import socket
import threading

from maesh_testing import find_free_port, wait_until

NAMESPACE = "maesh"
NODES = ("node-a", "node-b")
FOLDER = "/var/run/secrets/maesh"
HOST = "web.shop.maesh"
CONTROLLER = f"{NAMESPACE}/maesh-controller"


class ServiceAddress:
    """The address of a Service: passes each connection to a ready pod, those of the first group first."""

    def __init__(self, choose):
        self._choose = choose
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._sockets = {self._listening}
        self._lock = threading.Lock()
        self.port = self._listening.getsockname()[1]
        self._start(self._accept)

    def _start(self, work, *arguments):
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self):
        for turn in itertools.count():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            targets = self._choose()
            if not targets:
                client.close()
                continue
            try:
                server = socket.create_connection(targets[turn % len(targets)], timeout=60)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._start(self._join, client, server)

    def _join(self, client, server):
        """Pump both ways until both have ended."""
        with self._lock:
            self._sockets |= {client, server}
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._listening.close()


class Load:
    """Clients that send one request after the other, each on a connection of its own, until they are stopped.

    On a kept connection, a request may cross its end, and every client repeats such a request. Here none is repeated.
    """

    def __init__(self, port):
        self.failures, self.seen, self.answers = [], {}, 0
        self._port = port
        self._has_ended = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        while not self._has_ended.is_set():
            status, text, reason = self._exchange()
            self.answers += 1
            self.seen[text] = self.seen.get(text, 0) + 1
            if status != 200:
                self.failures.append((status, reason))

    def _exchange(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("GET", "/", headers={"Host": HOST, "Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers.get("X-Maesh-Reason", "")
        except (OSError, http.client.HTTPException) as error:
            return 0, "", repr(error)
        finally:
            connection.close()

    def wait_for_more(self, count=50):
        target = self.answers + count
        wait_until(lambda: self.answers >= target, "answers")

    def wait_until_seen(self, name):
        before = self.seen.get(name, 0)
        wait_until(lambda: self.seen.get(name, 0) > before + 3, f"answers of {name}: {self.seen}, {self.failures[:5]}")

    def stop(self):
        self._has_ended.set()
        for thread in self._threads:
            thread.join(70)


class Running:
    """A pod that runs. `port` is that of its API, or of its admin port."""

    def __init__(self, name, node, address, port):
        self.name, self.node, self.address, self.port = name, node, address, port
        self.command = None
        self.is_ready = False

    def ask(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()


class SmallCluster:
    """`upgrade` installs or upgrades the release; `load` is a client on the first node."""

    def __init__(self, server, render, permissions, start_maesh, folder):
        self.server, self._render, self._permissions = server, render, permissions
        self._start_maesh, self._folder = start_maesh, folder
        self.controllers, self.proxies = [], []
        self.http_port, self.tunnel_port = find_free_port(), find_free_port()
        self.api = ServiceAddress(lambda: [("127.0.0.1", each.port) for each in self.controllers if each.is_ready])
        self.shadow = ServiceAddress(self._choose_proxies)
        self.load = None
        self._numbers = itertools.count(1)
        self._templates = {}
        self._granted = []
        server.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in NODES])
        server.apply(
            [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (NAMESPACE, "shop")]
        )
        self._token = server.add_token("of-the-controllers", user="controllers")
        self._kubeconfig = server.write_kubeconfig(folder / "kubeconfig", token=self._token)

    def close(self):
        for each in (self.load,) if self.load else ():
            each.stop()
        self.api.close()
        self.shadow.close()

    def _choose_proxies(self):
        ready = [each for each in self.proxies if each.is_ready]
        near = [each for each in ready if each.node == NODES[0]]
        return [(each.address, self.http_port) for each in near or ready]

    def start_load(self):
        """Let clients on the first node send requests from now on."""
        self.load = Load(self.shadow.port)
        self.load.wait_for_more()

    # --- objects of users

    def serve(self, upstream, *, node=NODES[1]):
        """Let a server be the only pod of the service `web`."""
        metadata = {"name": "web", "namespace": "shop"}
        ports = [{"name": "a", "port": 80}]
        endpoint = {"addresses": [upstream.address], "nodeName": node, "conditions": {"ready": True}}
        labels = {"kubernetes.io/service-name": "web"}
        self.server.apply(
            [
                {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}},
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {**metadata, "labels": labels},
                    "addressType": "IPv4",
                    "ports": [{"name": "a", "port": upstream.port, "protocol": "TCP"}],
                    "endpoints": [endpoint],
                },
            ]
        )

    def set_mode_of_namespace(self, mode):
        """Set the annotation of the service's Namespace, and wait until the proxies have the mode."""
        self.server.patch("namespaces", "shop", {"metadata": {"annotations": {"maesh.containo.us/encryption": mode}}})
        self.wait_for_mode(mode or "permissive")

    def wait_for_mode(self, mode):
        """Wait until all proxies have the mode."""
        wait_until(lambda: {self._read_mode(each) for each in self.proxies} == {mode}, f"the mode {mode}")

    def _read_mode(self, proxy):
        status, text = proxy.ask("/configuration")
        services = json.loads(text)["http"]["services"] if status == 200 else {}
        return services.get("shop/web:80", {}).get("encryption", "off")

    # --- what Kubernetes does

    def upgrade(self, values, *, between=lambda: None):
        """Upgrade the release: set the rights, and replace pods whose template has changed.

        `between` is called when new controllers and old proxies run, which may be for long in a large cluster.
        """
        objects = self._render(values)
        self._granted.append(self._permissions(objects))
        grants = self._granted[-1].list_grants(CONTROLLER)
        rules = [{**rule, "namespace": namespace} if namespace else rule for namespace, rule in grants]
        self.server.set_rules(self._token, rules)
        found = {(each["kind"], each["metadata"]["name"]): each["spec"] for each in objects if "spec" in each}
        deployment, daemon_set = found["Deployment", "maesh-controller"], found["DaemonSet", "maesh-mesh"]
        has_new_controllers = self._note("controller", deployment["template"])
        nodes = list(NODES) if self._note("proxy", daemon_set["template"]) else []
        surges = daemon_set["updateStrategy"]["rollingUpdate"].get("maxSurge", 0) > 0
        first = None
        if nodes and surges:  # it starts while the old controllers run
            first = self._start_proxy(daemon_set["template"], nodes[0])
        if has_new_controllers:
            self._replace_controllers(deployment)
        between()
        for node in nodes:
            old = [each for each in self.proxies if each.node == node and each is not first]
            if not surges:
                self._end_proxies(old)
            new = first if first is not None and node == nodes[0] else self._start_proxy(daemon_set["template"], node)
            self._wait_for_proxy(new)
            if surges:
                self._end_proxies(old)

    def _note(self, part, template):
        has_changed = self._templates.get(part) != template
        self._templates[part] = template
        return has_changed

    def _replace_controllers(self, deployment):
        old = list(self.controllers)
        for number in range(deployment["replicas"]):
            new = self._start_controller(deployment["template"])
            new.command.wait_until(lambda new=new: new.ask("/api/status/readiness")[0] == 200, "a ready controller")
            new.is_ready = True
            self.controllers.append(new)
            for each in old[number : number + 1]:
                each.is_ready = False
                self.controllers.remove(each)
                assert each.command.stop() == 0

    def _start_controller(self, template):
        (container,) = template["spec"]["containers"]
        number = next(self._numbers)
        new = Running(f"maesh-controller-{number}", "", "127.0.0.1", find_free_port())
        new.command = self._start_maesh(
            *container["args"],
            *("--kubeconfig", self._kubeconfig, "--api-port", new.port, "--http-port", self.http_port),
            *("--limit-http-port", 1),
            env={"POD_IP": new.address, "POD_NAME": new.name},
        )
        return new

    def _start_proxy(self, template, node):
        (container,) = template["spec"]["containers"]
        number = next(self._numbers)
        new = Running(f"maesh-mesh-{number}", node, f"127.0.41.{number}", find_free_port())
        self._apply_pod(new, template)
        self._mount(new, template)
        endpoint = f"//maesh-controller.{NAMESPACE}.svc:9000"
        replaced = {
            FOLDER: str(self._folder / new.name),
            endpoint: f"//localhost:{self.api.port}",
            "$(NODE_NAME)": node,
            "/tmp/configuration": str(self._folder / f"{new.name}.configuration"),
        }
        arguments = [self._replace(argument, replaced) for argument in container["args"]]
        new.command = self._start_maesh(*arguments, "--admin-port", new.port, "--bind", new.address)
        self.proxies.append(new)
        return new

    def _replace(self, text, replaced):
        for old, new in replaced.items():
            text = text.replace(old, new)
        return text

    def _apply_pod(self, pod, template, *, is_ready=False):
        status = "True" if is_ready else "False"
        self.server.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": pod.name, "namespace": NAMESPACE, "labels": template["metadata"]["labels"]},
                "spec": {
                    "nodeName": pod.node,
                    "serviceAccountName": "maesh-mesh",
                    "containers": [{"name": "maesh-mesh", "image": "maesh"}],
                },
                "status": {
                    "phase": "Running",
                    "podIP": pod.address,
                    "podIPs": [{"ip": pod.address}],
                    "conditions": [{"type": "Ready", "status": status}],
                },
            }
        )

    def _mount(self, pod, template):
        """Write the projected files of a pod, as far as their sources exist; the kubelet does so again and again."""
        folder = self._folder / pod.name
        for volume in template["spec"]["volumes"]:
            for source in volume.get("projected", {}).get("sources", ()):
                if token := source.get("serviceAccountToken"):
                    path = folder / token["path"]
                    if not path.exists():
                        path.parent.mkdir(parents=True, exist_ok=True)
                        audiences = [token["audience"]]
                        path.write_text(
                            self.server.issue_token(NAMESPACE, "maesh-mesh", audiences=audiences, pod=pod.name)
                        )
                elif found := self.server.find("configmaps", source["configMap"]["name"], NAMESPACE):
                    for item in source["configMap"]["items"]:
                        path = folder / item["path"]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        fresh = path.with_name("fresh")
                        fresh.write_text(found["data"][item["key"]])
                        fresh.rename(path)  # the kubelet replaces files at once, too

    def _wait_for_proxy(self, pod):
        template = self._templates["proxy"]

        def check():
            self._mount(pod, template)
            return pod.ask("/ready")[0] == 200

        pod.command.wait_until(check, "a ready proxy")
        self._apply_pod(pod, template, is_ready=True)
        pod.is_ready = True

    def _end_proxies(self, pods):
        for pod in pods:
            pod.is_ready = False
            self.server.delete("pods", pod.name, NAMESPACE)
            self._wait_until_unknown(pod, [each for each in self.proxies if each not in pods])
            assert pod.command.stop() == 0
            self.server.finish_deletion("pods", pod.name, NAMESPACE)
            self.proxies.remove(pod)

    def _wait_until_unknown(self, pod, others):
        """Wait until no proxy would connect to one that ends: the preStop hook gives them time to learn of that."""

        def check():
            texts = [each.ask("/configuration")[1] for each in others if each.is_ready]
            return not any(f'"{pod.address}"' in text for text in texts)

        wait_until(check, "configurations without a proxy that ends")

    # --- what a test asks

    def read_connections(self, path):
        """Add up the connections of all proxies that took a path."""
        texts = [each.ask("/metrics")[1] for each in self.proxies]
        pattern = rf'^maesh_transport_connections_total\{{.*path="{path}".*\}} (\S+)$'
        return sum(float(value) for text in texts for value in re.findall(pattern, text, re.MULTILINE))

    def wait_for_encrypted(self):
        """Wait until a connection is encrypted: a node whose new proxy did not listen yet is set aside for a while."""
        wait_until(lambda: self.read_connections("encrypted") > 0, "an encrypted connection")

    def list_refused_calls(self):
        """List what controllers have asked the API server for without a right to it in any of the releases."""
        return [
            call
            for call in self.server.calls
            if not call.resource.startswith("/")
            and not any(each.allows(CONTROLLER, **call._asdict()) for each in self._granted)
        ]
