"""A Kubernetes API server for tests: real connections, and the behaviour of the real one as far as clients see it.

It runs in a thread of its own; every method may be called from any other, also from a coroutine, for none waits for the
network. What a test does here needs no permission and meets no fault. Nothing outside of tests may know of it.
"""

import asyncio
import copy
import secrets
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml
from aiohttp import web

from maesh_testing.kubernetes.access import ADMIN, AccessRules, Call, Rule
from maesh_testing.kubernetes.admission import Admission
from maesh_testing.kubernetes.certificates import Authority
from maesh_testing.kubernetes.faults import Fault, FaultKind
from maesh_testing.kubernetes.handler import BODY_LIMIT_BYTES, Handler
from maesh_testing.kubernetes.operations import Deletion, Operations
from maesh_testing.kubernetes.resources import NAMESPACES, ApiResource
from maesh_testing.kubernetes.reviews import ReviewApi
from maesh_testing.kubernetes.services import ServiceRules
from maesh_testing.kubernetes.statuses import StatusError
from maesh_testing.kubernetes.store import HISTORY_LIMIT, Hook, Object, Store
from maesh_testing.kubernetes.tokens import AccountTokens

__all__ = ["ApiServer", "Call", "Fault", "FaultKind", "StatusError"]

SERVICE_RANGE = "127.96.0.0/12"
"""Of the loopback, so that cluster IPs can be listened on."""
DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
START_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
PATIENCE_S = 60.0
_NAMESPACE = {"apiVersion": "v1", "kind": "Namespace"}


class ApiServer:
    """An API server. `with ApiServer() as server:` starts and stops it.

    `service_ranges` are one, or two of different families. `traffic_distributions` are the values that Services may
    have; None: the server is too old for the field. With `anonymous` who does not log in may do everything, as through
    `kubectl proxy`. `calls` tells every request in order.
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        anonymous: bool = False,
        service_ranges: Sequence[str] = (SERVICE_RANGE,),
        traffic_distributions: Sequence[str] | None = DISTRIBUTIONS,
        history_limit: int = HISTORY_LIMIT,
        port: int = 0,
    ) -> None:
        self.token = secrets.token_urlsafe(16)
        self.authority = Authority() if tls else None
        self._store = Store(history_limit=history_limit)
        admission = Admission(ServiceRules(service_ranges, traffic_distributions))
        self._operations = Operations(self._store, admission)
        self._tokens = AccountTokens(self._store)
        self._access = AccessRules(self._tokens, is_anonymous_admin=anonymous)
        self._access.add_token(self.token, ADMIN)
        self._handler = Handler(self._store, self._operations, self._access, ReviewApi(self._access, self._tokens))
        self.calls: list[Call] = self._handler.calls
        self._socket = _bind(port)
        self.port: int = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        for name in START_NAMESPACES:
            self.apply({**_NAMESPACE, "metadata": {"name": name}})

    def __repr__(self) -> str:
        return f"<ApiServer {self.url} {self._store!r}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it is, without a final slash."""
        return f"{'https' if self.authority else 'http'}://127.0.0.1:{self.port}"

    # Its life

    def start(self) -> None:
        """Start to listen; returns when it does."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._run_thread, args=(started,), name="API server", daemon=True)
        self._thread.start()
        assert started.wait(PATIENCE_S), "the API server did not start"

    def stop(self) -> None:
        """Stop for good: all connections are cut, and the thread ends."""
        if self._loop is not None and self._stopping is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive(), "the API server did not end"
            self._thread = None
        self._socket.close()

    def stop_listening(self) -> None:
        """Be down: connections are cut and new ones refused. What is stored stays, and the port is kept."""
        self._call(self._stop_listening())

    def resume(self) -> None:
        """Be up again, on the same port."""
        self._call(self._listen())

    def cut_connections(self) -> None:
        """Cut all connections there are; new ones are taken."""
        self._call(self._cut_connections())

    # Who may come

    def add_token(self, token: str, *, user: str = ADMIN) -> str:
        """Let a bearer token stand for a user; return the token."""
        self._access.add_token(token, user)
        return token

    def connect_pod(self, namespace: str, name: str, port: int, address: tuple[str, int]) -> None:
        """Let the port of a pod be at an address of this machine, for the subresources `proxy` and `portforward`."""
        self._handler.pods.addresses[namespace, name, port] = address

    @property
    def forwarded(self) -> bytes:
        """Everything that has passed through forwarded ports."""
        return b"".join(self._handler.pods.seen)

    def expire_token(self, token: str) -> None:
        """Answer this token with 401 from now on."""
        self._access.expire_token(token)

    def issue_token(
        self, namespace: str, account: str, *, audiences: Sequence[str] = (), pod: str = "", expiration_s: int = 3600
    ) -> str:
        """Issue a token of a service account, as the kubelet asks for one of a pod that it projects into it.

        The account is created if there is none. Raises StatusError.
        """
        if self.find("serviceaccounts", account, namespace) is None:
            metadata = {"name": account, "namespace": namespace}
            self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod} if pod else None
        spec = {"audiences": list(audiences), "expirationSeconds": expiration_s, "boundObjectRef": bound}
        with self._store.lock:
            return str(self._tokens.issue(namespace, account, spec)["status"]["token"])

    def hide_nodes_of_tokens(self) -> None:
        """Answer reviews as servers before Kubernetes 1.30, which do not say on which node a token's pod is."""
        self._tokens.names_nodes = False

    def add_password(self, user: str, password: str) -> None:
        """Let a user come with basic authentication."""
        self._access.add_password(user, password)

    def set_rules(self, who: str, rules: Iterable[Rule] | None) -> None:
        """Say what the user of a token, or a user by name, may do; None: everything.

        A rule is one of a ClusterRole; with `namespace` in it, one of a Role there. A group may have rules, too.
        """
        self._access.set_rules(who, rules)

    def write_kubeconfig(self, path: Path, *, token: str | None = None, user: Mapping[str, Any] | None = None) -> Path:
        """Write a kubeconfig with a token, by default the administrator's, or with the login `user`; gives the path."""
        cluster: dict[str, Any] = {"server": self.url}
        if self.authority:
            cluster["certificate-authority-data"] = self.authority.encoded
        login = {"token": token or self.token} if user is None else dict(user)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": login}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    # What goes wrong

    def add_fault(self, kind: FaultKind, **fields: Any) -> Fault:
        """Let calls meet a fault; the fields are those of `Fault`."""
        fault = Fault(kind=kind, **fields)
        self._handler.faults.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Let nothing go wrong any more; who hangs goes on hanging."""
        self._handler.faults.clear()

    def compact(self) -> None:
        """Forget all history: older resource versions and continue tokens are answered with 410."""
        self._store.compact()
        self._handler.lists.forget()

    def end_watches(self, plural: str | None = None) -> None:
        """End the watches of a resource, or all, as if their time were over."""
        self._store.end_watches(self._find(plural) if plural else None)

    def send_bookmarks(self, plural: str) -> None:
        """Send a bookmark to the watches of a resource that take them."""
        self._store.send_bookmarks(self._find(plural))

    def count_watches(self, plural: str) -> int:
        """Count the watches of a resource that stand."""
        return self._store.count_watches(self._find(plural))

    # What is there

    @property
    def version(self) -> int:
        """The resource version of the last change."""
        return self._store.version

    def apply(self, manifests: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Object]:
        """Create objects, or put them in place of what is there, status and all; namespaces are made as needed.

        Gives what is stored. Raises StatusError.
        """
        single = isinstance(manifests, Mapping)
        given: Iterable[Mapping[str, Any]] = [manifests] if single else manifests  # type: ignore[list-item,assignment]
        return [self._apply(each) for each in given]

    def get(self, plural: str, name: str, namespace: str = "") -> Object:
        """Return an object. Raises StatusError."""
        return copy.deepcopy(self._operations.get(self._find(plural), namespace, name))

    def find(self, plural: str, name: str, namespace: str = "") -> Object | None:
        """Find an object; None when there is none."""
        return copy.deepcopy(self._store.find(self._find(plural), namespace, name))

    def list(self, plural: str, namespace: str = "") -> list[Object]:
        """List the objects of a namespace, or of all."""
        return copy.deepcopy(self._store.list(self._find(plural), namespace))

    def patch(self, plural: str, name: str, patch: Mapping[str, Any], namespace: str = "") -> Object:
        """Apply a merge patch, status included. Raises StatusError."""
        resource = self._find(plural)
        with self._store.lock:
            found = self._operations.patch(resource, namespace, name, patch, manager="test")
            if resource.has_status and "status" in patch:
                found = self._operations.patch(resource, namespace, name, patch, subresource="status", manager="test")
            return copy.deepcopy(found)

    def delete(self, plural: str, name: str, namespace: str = "", *, grace_s: int | None = None) -> None:
        """Delete an object as a client would: a pod that runs on a node is only marked, unless `grace_s` is 0."""
        self._operations.delete(self._find(plural), namespace, name, Deletion(grace_s=grace_s))

    def finish_deletion(self, plural: str, name: str, namespace: str = "") -> None:
        """Remove an object at once, as the node does with a pod that has ended, whatever its finalizers."""
        with self._store.lock:
            resource = self._find(plural)
            self._operations.remove(resource, self._operations.get(resource, namespace, name))

    def on_change(self, hook: Hook) -> None:
        """Call `hook(type, plural, object)` at every change, in its thread, before the client gets its answer.

        It may change more; it must not change the object that it is given, nor wait for another thread.
        """
        self._store.hooks.append(hook)

    def add_crds(self, folder: Path) -> None:
        """Create the definitions in the YAML files of a folder."""
        for path in sorted(folder.glob("*.yaml")):
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast for large definitions
            self.apply([document for document in yaml.load_all(path.read_text(), Loader=loader) if document])

    # Scale

    def serve_canned(self, plural: str, pages: Sequence[bytes]) -> None:
        """Answer lists of a resource with prepared pages as they are, and with no object that is stored.

        The first is for a list without `continue`; page n, counted from 0, is the one for the token `n`. The server's
        version becomes at least the `resourceVersion` of the first object in the first page.
        """
        with self._store.lock:
            self._handler.canned[plural] = [bytes(page) for page in pages]
            _, _, rest = pages[0].partition(b'"resourceVersion":')
            digits = rest.lstrip(b' "').partition(b'"')[0]
            self._store.version = max(self._store.version, int(digits) if digits.isdigit() else 0)

    def emit(self, plural: str, kind: str, given: Mapping[str, Any]) -> str:
        """Send an event to the watches of a resource, though nothing is stored; return its resource version."""
        found = self._store.emit(kind, self._find(plural), given)
        return str(found["metadata"]["resourceVersion"])

    # Within

    def _find(self, plural: str) -> ApiResource:
        return self._store.find_resource(plural)

    def _apply(self, given: Mapping[str, Any]) -> Object:
        api_version, kind = given["apiVersion"], given["kind"]
        group = api_version.rpartition("/")[0]
        with self._store.lock:
            found = [each for each in self._store.resources.values() if (each.group, each.kind) == (group, kind)]
            if not found:
                raise StatusError(404, "NotFound", f'no matches for kind "{kind}" in version "{api_version}"')
            resource = found[0]
            return copy.deepcopy(self._put(resource, msgspec.json.decode(msgspec.json.encode(given))))

    def _put(self, resource: ApiResource, given: Object) -> Object:
        metadata = given["metadata"]
        namespace = metadata.setdefault("namespace", "default") if resource.is_namespaced else ""
        for key in ("resourceVersion", "uid"):
            metadata.pop(key, None)
        namespaces = self._store.resources[NAMESPACES]
        if namespace and self._store.find(namespaces, "", namespace) is None:
            self._operations.create(namespaces, "", {**_NAMESPACE, "metadata": {"name": namespace}})
        given["apiVersion"] = resource.render_version(resource.storage_version)
        status = given.get("status")
        old = self._store.find(resource, namespace, metadata.get("name", ""))
        if old is None:
            found = self._operations.create(resource, namespace, given, manager="test")
        else:
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
            found = self._operations.update(resource, namespace, metadata["name"], given, manager="test")
        if resource.has_status and status is not None:
            name, change = found["metadata"]["name"], {**found, "status": status}
            found = self._operations.update(resource, namespace, name, change, subresource="status", manager="test")
        return found

    def _run_thread(self, started: threading.Event) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._run(started))

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=BODY_LIMIT_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handler.handle)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        await self._listen()
        started.set()
        await self._stopping.wait()
        await self._stop_accepting()
        await self._cut_connections()
        await self._runner.cleanup()

    async def _listen(self) -> None:
        assert self._runner is not None
        context = self.authority.build_context() if self.authority else None
        self._site = web.SockSite(self._runner, self._socket, ssl_context=context)
        await self._site.start()

    async def _stop_listening(self) -> None:
        if self._site is not None:
            await self._stop_accepting()
            await self._site.stop()
            self._site = None
            self._socket = _bind(self.port)
        await self._cut_connections()

    async def _stop_accepting(self) -> None:
        """Let what is being accepted come to its end: asyncio loses a connection whose server is closed meanwhile."""
        if self._site is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            for _ in range(3):
                await asyncio.sleep(0)

    async def _cut_connections(self) -> None:
        assert self._runner is not None
        assert self._runner.server is not None
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def _call(self, coroutine: Any) -> None:
        assert self._loop is not None, "the API server was not started"
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)


def _bind(port: int) -> socket.socket:
    """Bind a port without listening: connections are refused, and nobody else gets it."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
