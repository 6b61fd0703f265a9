"""Who may come, and do what: tokens, passwords, certificates, rules, and the record of calls."""

import base64
import json
import ssl
import urllib.error
import urllib.request

import pytest
import yaml

from maesh_testing.api_server import ApiServer

SERVICES = "/api/v1/namespaces/default/services"


async def test_who_is_not_known_is_refused(raw):
    for header in ("Bearer other", "Basic eDp5", "Basic !"):
        status, found = await raw("GET", SERVICES, headers={"Authorization": header})
        assert (status, found["reason"], found["message"]) == (401, "Unauthorized", "Unauthorized")


async def test_who_says_nothing_is_anonymous_and_may_read_the_version_alone(raw):
    assert (await raw("GET", "/version", headers={}))[0] == 200
    status, found = await raw("GET", SERVICES, headers={})
    assert (status, found["reason"]) == (403, "Forbidden")
    assert found["message"] == (
        'services is forbidden: User "system:anonymous" cannot list resource "services" in API group "" in the '
        'namespace "default"'
    )
    assert (await raw("GET", "/apis", headers={}))[0] == 403


async def test_a_token_that_has_expired_is_refused_until_there_is_a_new_one(raw, api_server):
    api_server.add_token("first", user="maesh")
    assert (await raw("GET", SERVICES, headers={"Authorization": "Bearer first"}))[0] == 200
    api_server.expire_token("first")
    assert (await raw("GET", SERVICES, headers={"Authorization": "Bearer first"}))[0] == 401
    api_server.add_token("second", user="maesh")
    assert (await raw("GET", SERVICES, headers={"Authorization": "Bearer second"}))[0] == 200


async def test_a_user_may_come_with_a_password(raw, api_server):
    api_server.add_password("jo", "se:cret")
    for password, status in (("se:cret", 200), ("other", 401)):
        text = base64.b64encode(f"jo:{password}".encode()).decode()
        assert (await raw("GET", SERVICES, headers={"Authorization": f"Basic {text}"}))[0] == status


@pytest.mark.parametrize(
    ("rule", "method", "path", "status"),
    [
        ({"resources": ["services"], "verbs": ["list"]}, "GET", SERVICES, 200),
        ({"resources": ["services"], "verbs": ["list"]}, "GET", f"{SERVICES}?watch=1", 403),
        ({"resources": ["services"], "verbs": ["*"]}, "DELETE", f"{SERVICES}/app", 404),
        ({"resources": ["services"], "verbs": ["get"]}, "DELETE", f"{SERVICES}/app", 403),
        ({"resources": ["services"], "verbs": ["get"], "resourceNames": ["app"]}, "GET", f"{SERVICES}/app", 404),
        ({"resources": ["services"], "verbs": ["get"], "resourceNames": ["b"]}, "GET", f"{SERVICES}/app", 403),
        ({"resources": ["services"], "verbs": ["create"], "resourceNames": ["app"]}, "POST", SERVICES, 403),
        ({"resources": ["services"], "verbs": ["create"]}, "POST", SERVICES, 201),
        ({"resources": ["services"], "verbs": ["get"]}, "GET", f"{SERVICES}/app/status", 403),
        ({"resources": ["services/status"], "verbs": ["get"]}, "GET", f"{SERVICES}/app/status", 404),
        ({"resources": ["*"], "verbs": ["get"], "apiGroups": ["apps"]}, "GET", f"{SERVICES}/app", 403),
        ({"resources": ["*"], "verbs": ["get"], "namespace": "default"}, "GET", f"{SERVICES}/app", 404),
        ({"resources": ["*"], "verbs": ["get"], "namespace": "other"}, "GET", f"{SERVICES}/app", 403),
        ({"resources": ["*"], "verbs": ["list"], "namespace": "default"}, "GET", "/api/v1/services", 403),
    ],
)
async def test_a_call_outside_of_the_rules_is_forbidden(raw, api_server, build_service, rule, method, path, status):
    token = api_server.add_token("limited", user="system:serviceaccount:maesh:controller")
    api_server.set_rules(token, [{"apiGroups": [""], **rule}])
    body = build_service() if method == "POST" else None
    found = await raw(method, path, body, headers={"Authorization": "Bearer limited"})
    assert found[0] == status
    if status == 403:
        assert 'User "system:serviceaccount:maesh:controller" cannot' in found[1]["message"]
    assert (await raw("GET", "/apis", headers={"Authorization": "Bearer limited"}))[0] == 200


async def test_every_call_is_on_record_in_the_words_of_rules(raw, api_server, build_service):
    await raw("POST", SERVICES, build_service())
    await raw("GET", "/api/v1/services")
    await raw("GET", f"{SERVICES}/app")
    await raw("PUT", f"{SERVICES}/app", build_service())
    await raw("PATCH", f"{SERVICES}/app/status", {}, content_type="application/merge-patch+json")
    await raw("DELETE", f"{SERVICES}/app")
    await raw("DELETE", "/apis/apps/v1/namespaces/default/daemonsets")
    async with raw.watch("/apis/discovery.k8s.io/v1/endpointslices"):
        pass
    await raw("GET", "/apis")
    assert api_server.calls == [
        ("create", "", "services", "", "default", "app"),
        ("list", "", "services", "", "", ""),
        ("get", "", "services", "", "default", "app"),
        ("update", "", "services", "", "default", "app"),
        ("patch", "", "services", "status", "default", "app"),
        ("delete", "", "services", "", "default", "app"),
        ("deletecollection", "apps", "daemonsets", "", "default", ""),
        ("watch", "discovery.k8s.io", "endpointslices", "", "", ""),
        ("get", "", "/apis", "", "", ""),
    ]


def test_a_client_with_the_authority_and_a_certificate_of_it_is_recognized(tmp_path):
    with ApiServer(tls=True) as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        document = yaml.safe_load(path.read_text())
        authority = base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        certificate, key = server.authority.issue_client("jo")
        (tmp_path / "jo.pem").write_bytes(certificate + key)
        server.set_rules("jo", [])
        context = ssl.create_default_context(cadata=authority)
        with urllib.request.urlopen(f"{server.url}/version", context=context, timeout=60) as answer:
            assert json.load(answer)["major"] == "1"
        context.load_cert_chain(tmp_path / "jo.pem")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.url}{SERVICES}", context=context, timeout=60)
        assert 'User "jo" cannot list' in json.load(caught.value)["message"]
        caught.value.close()
        with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
            urllib.request.urlopen(f"{server.url}/version", timeout=60)


def test_a_server_like_kubectl_proxy_asks_nobody():
    with ApiServer(anonymous=True) as server, urllib.request.urlopen(f"{server.url}{SERVICES}", timeout=60) as answer:
        assert json.load(answer)["items"] == []


PODS_OF_A = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"nodeName": "a", "serviceAccountName": "web", "containers": []},
}
TOKENS = "/api/v1/namespaces/default/serviceaccounts/web/token"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


def build_request(pod="", **spec):
    bound = {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod}} if pod else {}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {**spec, **bound}}


async def test_a_token_request_issues_a_token_that_a_review_knows(raw, api_server):
    api_server.issue_token("default", "web")  # makes the account
    api_server.apply(PODS_OF_A)
    status, answer = await raw("POST", TOKENS, build_request("web", audiences=["vault"], expirationSeconds=700))
    assert status == 201
    token = answer["status"]["token"]
    assert token.count(".") == 2
    spec = {"token": token}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    status, found = await raw("POST", REVIEWS, review)
    assert (status, "authenticated" in found["status"]) == (201, False)
    assert "is invalid for the target audiences" in found["status"]["error"]
    spec["audiences"] = ["vault", "other"]
    status, found = await raw("POST", REVIEWS, review)
    assert found["status"]["authenticated"]
    assert found["status"]["audiences"] == ["vault"]
    extra = found["status"]["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["web"]
    assert extra["authentication.kubernetes.io/node-name"] == ["a"]


async def test_a_token_request_is_validated(raw, api_server):
    api_server.issue_token("default", "web")
    api_server.apply({**PODS_OF_A, "spec": {"serviceAccountName": "other", "containers": []}})
    assert (await raw("POST", TOKENS, build_request(expirationSeconds=599)))[0] == 422
    assert (await raw("POST", TOKENS, build_request("missing")))[0] == 404
    assert (await raw("POST", TOKENS, build_request("web")))[0] == 400
    assert (await raw("POST", TOKENS.replace("/web/", "/none/"), build_request()))[0] == 404
    assert (await raw("GET", TOKENS))[0] == 405
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}}
    assert (await raw("POST", REVIEWS, review))[0] == 400


async def test_a_service_account_logs_in_with_its_token_and_has_only_its_rules(raw, api_server):
    token = api_server.issue_token("default", "web")
    headers = {"Authorization": f"Bearer {token}"}
    assert (await raw("GET", SERVICES, headers=headers))[0] == 403
    rules = [{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]
    api_server.set_rules("system:serviceaccount:default:web", rules)
    assert (await raw("GET", SERVICES, headers=headers))[0] == 200
    other = {"Authorization": f"Bearer {api_server.issue_token('default', 'web', audiences=['vault'])}"}
    assert (await raw("GET", SERVICES, headers=other))[0] == 401
    api_server.expire_token(token)
    assert (await raw("GET", SERVICES, headers=headers))[0] == 401


async def test_an_access_review_is_about_one_user_and_one_thing(raw, api_server):
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    attributes = {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}
    for spec in ({}, {"user": "jo"}, attributes, {"user": "jo", **attributes, "resourceAttributes": {"verb": "get"}}):
        assert (await raw("POST", path, {**review, "spec": spec}))[0] == 422, spec
    user = "system:serviceaccount:default:web"
    status, found = await raw("POST", path, {**review, "spec": {"user": user, **attributes}})
    assert (status, found["status"]["allowed"]) == (201, False)
    api_server.set_rules("viewers", [{"nonResourceURLs": ["*"], "verbs": ["get"]}])
    spec = {"user": user, "groups": ["viewers"], **attributes}
    assert (await raw("POST", path, {**review, "spec": spec}))[1]["status"]["allowed"]
    spec["nonResourceAttributes"] = {"path": "/metrics", "verb": "post"}
    assert not (await raw("POST", path, {**review, "spec": spec}))[1]["status"]["allowed"]
