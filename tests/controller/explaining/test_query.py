import json
from urllib.parse import urlencode

import pytest

from maesh_core.controller.explaining.explanation import ExplainedRequest
from maesh_core.controller.explaining.query import answer_question, parse_question
from maesh_core.controller.run import build_once
from maesh_core.errors import ConfigurationError
from maesh_core.settings import ControllerSettings

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{name: a, image: b}]}
status: {podIP: 127.0.5.1}
"""


class NoPlugins:
    names: tuple[str, ...] = ()

    def collect(self, hook_name):
        return []

    def describe(self, provided):
        return ""


def test_a_question_has_defaults_and_repeats_only_headers():
    query = urlencode([("client", " a.b "), ("service", "web.shop"), ("header", "A: 1"), ("header", "b:2")])
    assert parse_question(query) == ExplainedRequest(client="a.b", service="web.shop", headers=(("A", "1"), ("b", "2")))
    query = "client=a&service=b&method=POST&path=/x%3Fy&port=81&header="
    assert parse_question(query) == ExplainedRequest(client="a", service="b", method="POST", path="/x?y", port=81)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "client is missing: name a pod or an address"),
        ("client=a", "service is missing: name a service"),
        ("client=a&service=b&verb=c", "unknown parameter 'verb'; the parameters are client, service, method"),
        ("client=a&service=b&method=a b", "METHOD: 'a b' is not a method such as GET"),
        ("client=a&service=b&method=get", "METHOD: 'get' is not GET: methods are case-sensitive"),
        ("client=a&service=b&path=x", "PATH: 'x' does not begin with /"),
        ("client=a&service=b&port=x", "port: 'x' is not a number from 1 to 65535"),
        ("client=a&service=b&port=%C2%B2", "port: '²' is not a number"),
        ("client=a&service=b&header=x", "header: 'x' is not NAME: VALUE"),
        ("client=a&service=b&header=x y: z", "header: 'x y: z' is not NAME: VALUE"),
        ("client=a&service=b" + "&header=a:b" * 51, "there are more than 50 headers"),
    ],
)
def test_an_invalid_question_is_refused_with_the_reason(query, text):
    with pytest.raises(ConfigurationError) as caught:
        parse_question(query)
    assert str(caught.value).startswith(text)


@pytest.fixture
async def engine(tmp_path):
    (tmp_path / "web.yaml").write_text(MANIFEST)
    return await build_once(ControllerSettings(paths=(str(tmp_path),)), NoPlugins())


async def test_a_question_is_answered_from_what_the_controller_serves(engine):
    found = json.loads(answer_question(ExplainedRequest(client="web-1.shop", service="web.shop"), engine))
    assert (found["isAdmitted"], found["status"], found["port"]) == (True, 200, 80)
    assert found["destinations"][0]["servers"] == ["127.0.5.1:80"]


@pytest.mark.parametrize("asked", [{"service": "wbe.shop"}, {"client": "other"}, {"port": 81}])
async def test_a_question_about_what_does_not_exist_raises(engine, asked):
    with pytest.raises(ConfigurationError):
        answer_question(ExplainedRequest(**{"client": "web-1.shop", "service": "web.shop", **asked}), engine)
