"""Requests to an API server for tests: who asks and what for, the faults on the way, and the answer.

Takes aiohttp's requests. One request is one call in `calls`, whatever becomes of it.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from maesh_testing.kubernetes.access import AccessRules, Call
from maesh_testing.kubernetes.answering import Answer, break_connection, build_answer, build_refusal, deliver
from maesh_testing.kubernetes.conversion import to_item, to_kept, to_version
from maesh_testing.kubernetes.discovery import build_document
from maesh_testing.kubernetes.faults import Fault, FaultKind, Faults
from maesh_testing.kubernetes.lists import ListQuery, Lists
from maesh_testing.kubernetes.operations import Deletion, Operations
from maesh_testing.kubernetes.pod_connections import PodConnections, PodTarget, parse_pod_target
from maesh_testing.kubernetes.resources import PODS, ApiResource
from maesh_testing.kubernetes.reviews import ReviewApi
from maesh_testing.kubernetes.selectors import parse_selectors
from maesh_testing.kubernetes.statuses import (
    StatusError,
    refuse_media_type,
    refuse_method,
    refuse_path,
    refuse_request,
)
from maesh_testing.kubernetes.store import Store
from maesh_testing.kubernetes.targets import Target, parse_target
from maesh_testing.kubernetes.tokens import User
from maesh_testing.kubernetes.watching import LONGEST_S, WatchQuery, WatchStream

BODY_LIMIT_BYTES = 3 * 2**20
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
TOUCHED = "testing.maesh/changed-by-another"
"""The annotation that the fault CONFLICT changes."""


class Handler:
    """Answers requests. `canned` holds, by plural, prepared pages in place of lists."""

    def __init__(self, store: Store, operations: Operations, access: AccessRules, reviews: ReviewApi) -> None:
        self.calls: list[Call] = []
        self.faults = Faults()
        self.lists = Lists(store)
        self.canned: dict[str, list[bytes]] = {}
        self.pods = PodConnections()
        self._store = store
        self._operations = operations
        self._access = access
        self._reviews = reviews

    def __repr__(self) -> str:
        return f"<Handler after {len(self.calls)} calls>"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.raw_path.partition("?")[0]
        query = request.rel_url.query
        if pod := parse_pod_target(request.method, path, query):
            return await self._connect_pod(request, pod)
        target = parse_target(request.method, path, query)
        call = target.call if target else Call("get", "", path, "", "", "")
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            error = StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_LIMIT_BYTES}")
            return await deliver(request, build_refusal(error), None)
        if call.verb == "create" and not call.name:
            call = call._replace(name=_read_name(body))
        self.calls.append(call)
        fault = self.faults.take(call)
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if fault.kind is FaultKind.HANG:
                await asyncio.Event().wait()
            if fault.kind is FaultKind.CLOSE_BEFORE:
                return break_connection(request)
        try:
            if fault is not None and fault.kind is FaultKind.STATUS:
                raise StatusError(fault.status, fault.reason, fault.message, retry_after_s=fault.retry_after_s)
            answer = self._answer(request, target, call, body, fault)
        except StatusError as error:
            answer = build_refusal(error)
        if isinstance(answer, WatchStream):
            return await answer.run(request)
        return await deliver(request, answer, fault)

    async def _connect_pod(self, request: web.BaseRequest, target: PodTarget) -> web.StreamResponse:
        """Connect to a port of a pod."""
        self.calls.append(target.call)
        try:
            user = self._access.identify(request.headers.get("Authorization", ""), None)
            self._access.check(user, target.call, self._store.resources[PODS])
        except StatusError as error:
            return await deliver(request, build_refusal(error), None)
        return await self.pods.handle(request, target)

    def _answer(
        self, request: web.BaseRequest, target: Target | None, call: Call, body: bytes, fault: Fault | None
    ) -> Answer | WatchStream:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        user = self._access.identify(request.headers.get("Authorization", ""), certificate)
        if target is None:
            return self._answer_document(user, call.resource)
        with self._store.lock:
            if review := self._reviews.find_resource(call):
                self._reviews.check(user, call, review)
                if call.verb != "create":
                    raise refuse_method()
                return build_answer(self._reviews.answer(review, call, _decode(review, target, body), user), 201)
            resource = self._store.resources.get((call.group, call.resource))
            self._access.check(user, call, resource or ApiResource(group=call.group, plural=call.resource, kind=""))
            if resource is None or not _serves(resource, target):
                raise refuse_path()
            if fault is not None and fault.kind is FaultKind.CONFLICT:
                self._touch(resource, call)
            return self._execute(request, resource, target, call, body, fault)

    def _answer_document(self, user: User, path: str) -> Answer:
        self._access.check_document(user, path)
        if path in ("/livez", "/readyz", "/healthz"):
            return Answer(200, b"ok", content_type="text/plain; charset=utf-8")
        with self._store.lock:
            document = build_document(path, list(self._store.resources.values()))
        if document is None:
            raise refuse_path()
        return build_answer(document)

    def _execute(
        self,
        request: web.BaseRequest,
        resource: ApiResource,
        target: Target,
        call: Call,
        body: bytes,
        fault: Fault | None,
    ) -> Answer | WatchStream:
        query = request.rel_url.query
        if query.get("dryRun"):
            raise refuse_request("this server of tests knows no dry run")
        manager = query.get("fieldManager") or request.headers.get("User-Agent", "unknown").partition("/")[0]
        where = (resource, call.namespace, call.name)
        match call.verb:
            case "watch":
                return self._open_watch(resource, target, query, fault)
            case "list":
                return self._answer_list(resource, target, query)
            case "get":
                found, status = self._operations.get(*where), 200
            case "create" if not target.has_name:
                given = to_kept(resource, _decode(resource, target, body))
                found, status = self._operations.create(resource, call.namespace, given, manager=manager), 201
            case "update" if target.has_name:
                given = to_kept(resource, _decode(resource, target, body))
                is_new = self._store.find(*where) is None
                found = self._operations.update(*where, given, subresource=call.subresource, manager=manager)
                status = 201 if is_new else 200
            case "patch" if target.has_name and request.content_type == APPLY_PATCH and resource.is_custom:
                if not query.get("fieldManager"):
                    raise refuse_request("fieldManager is required for apply patch")
                given = to_kept(resource, _decode(resource, target, body))
                is_forced = query.get("force", "").lower() in ("1", "t", "true")
                found, is_new = self._operations.apply(
                    *where, given, subresource=call.subresource, manager=manager, is_forced=is_forced
                )
                status = 201 if is_new else 200
            case "patch" if target.has_name:
                patch = _decode_patch(resource, request.content_type, body)
                found = self._operations.patch(*where, patch, subresource=call.subresource, manager=manager)
                status = 200
            case "delete":
                return self._answer_delete(resource, target, call, query, body)
            case "deletecollection":
                return self._answer_delete_all(resource, target, query)
            case _:
                raise refuse_method()
        return build_answer(to_version(resource, target.version, found), status)

    def _answer_list(self, resource: ApiResource, target: Target, query: Mapping[str, str]) -> Answer:
        if pages := self.canned.get(resource.plural):
            token = query.get("continue") or "0"
            if not token.isdecimal() or int(token) >= len(pages):
                raise refuse_request("continue key is not valid")
            return Answer(200, pages[int(token)])
        asked = ListQuery(
            namespace=target.call.namespace,
            selector=parse_selectors(resource, query.get("labelSelector", ""), query.get("fieldSelector", "")),
            limit=_read_number(query, "limit"),
            token=query.get("continue", ""),
            version=query.get("resourceVersion", ""),
            match=query.get("resourceVersionMatch", ""),
        )
        objects, metadata = self.lists.get_page(resource, asked)
        items = [to_item(resource, target.version, each) for each in objects]
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.render_version(target.version)}
        return build_answer(head | {"metadata": metadata, "items": items})

    def _open_watch(
        self, resource: ApiResource, target: Target, query: Mapping[str, str], fault: Fault | None
    ) -> WatchStream:
        version = query.get("resourceVersion", "")
        if version and not version.isdecimal():
            raise refuse_request(f"invalid resource version {version!r}")
        takes_bookmarks = query.get("allowWatchBookmarks", "").lower() in ("1", "t", "true")
        wants_initial = query.get("sendInitialEvents", "").lower() in ("1", "t", "true")
        asked = WatchQuery(
            version=target.version,
            namespace=target.call.namespace,
            selector=parse_selectors(resource, query.get("labelSelector", ""), query.get("fieldSelector", "")),
            since=None if version in ("", "0") or wants_initial else int(version),
            takes_bookmarks=takes_bookmarks,
            timeout_s=_read_number(query, "timeoutSeconds") or LONGEST_S,
            wants_initial_end=wants_initial and takes_bookmarks,
        )
        return WatchStream(self._store, resource, asked, fault)

    def _answer_delete(
        self, resource: ApiResource, target: Target, call: Call, query: Mapping[str, str], body: bytes
    ) -> Answer:
        options = _decode_object(body) if body else {}
        preconditions = options.get("preconditions") or {}
        grace = options.get("gracePeriodSeconds")
        if grace is None and "gracePeriodSeconds" in query:
            grace = _read_number(query, "gracePeriodSeconds")
        deletion = Deletion(preconditions.get("uid"), preconditions.get("resourceVersion"), grace)
        found, is_gone = self._operations.delete(resource, call.namespace, call.name, deletion)
        if resource.gives_deleted or not is_gone:
            return build_answer(to_version(resource, target.version, found))
        details = {"name": call.name, "group": resource.group, "kind": resource.plural, "uid": found["metadata"]["uid"]}
        details = {key: value for key, value in details.items() if value}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return build_answer(status)

    def _answer_delete_all(self, resource: ApiResource, target: Target, query: Mapping[str, str]) -> Answer:
        selector = parse_selectors(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        objects, metadata = self.lists.get_page(resource, ListQuery(target.call.namespace, selector))
        for each in objects:
            self._operations.delete(resource, each["metadata"].get("namespace", ""), each["metadata"]["name"])
        items = [to_item(resource, target.version, each) for each in objects]
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.render_version(target.version)}
        return build_answer(head | {"metadata": metadata, "items": items})

    def _touch(self, resource: ApiResource, call: Call) -> None:
        """Change an object as somebody else would."""
        old = self._store.find(resource, call.namespace, call.name)
        if old is not None:
            change = {"metadata": {"annotations": {TOUCHED: str(self._store.version)}}}
            self._operations.patch(resource, call.namespace, call.name, change, manager="another")


def _serves(resource: ApiResource, target: Target) -> bool:
    call = target.call
    if target.version not in resource.versions or call.subresource not in ("", "status"):
        return False
    if call.subresource and not resource.has_status:
        return False
    if resource.is_namespaced:
        return bool(call.namespace) or call.verb in ("list", "watch", "deletecollection")
    return not call.namespace


def _read_number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "") or "0"
    if not text.isdecimal():
        raise refuse_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _read_name(body: bytes) -> str:
    """Read the name of an object that is created, for the record of calls."""
    try:
        return str(msgspec.json.decode(body)["metadata"].get("name", ""))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return ""


def _decode_object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise refuse_request(f"the object provided is unrecognized (must be of type Object): {error}") from error


def _decode(resource: ApiResource, target: Target, body: bytes) -> dict[str, Any]:
    given = _decode_object(body)
    wanted = resource.render_version(target.version)
    kind, version = given.get("kind"), given.get("apiVersion")
    if resource.is_custom and not kind:
        raise refuse_request("Object 'Kind' is missing in the body")
    if version and version != wanted:
        text = f"the API version in the data ({version}) does not match the expected API version ({wanted})"
        raise refuse_request(text)
    if kind and kind != resource.kind:
        raise refuse_request(f"the object provided is of kind {kind}, and {resource.kind} was expected")
    return given


def _decode_patch(resource: ApiResource, content_type: str, body: bytes) -> dict[str, Any]:
    accepted = [MERGE_PATCH, APPLY_PATCH] if resource.is_custom else [MERGE_PATCH, STRATEGIC_PATCH]
    if content_type not in accepted:
        raise refuse_media_type(accepted)
    return _decode_object(body)
