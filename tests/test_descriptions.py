"""Every shipped middleware describes its settings, so that `maesh diff` shows each change that a user makes."""

import pytest

from maesh_core.controller.explaining.explanation import ExplainedRequest
from maesh_core.model.keys import ObjectKey
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import SHIPPED, list_installed

from .controller.mesh_states.states import build_pod, build_service, build_shop, build_state

KINDS = {
    "circuitbreaker": [{"circuit-breaker-expression": "NetworkErrorRatio() > 0.5"}],
    "compress": [{"compress": "gzip"}, {"compress-min-bytes": "10"}, {"compress-types": "text/*"}],
    "cors": [
        {"cors-allow-origins": "https://a.example"},
        {"cors-allow-methods": "PUT"},
        {"cors-allow-headers": "x-a"},
        {"cors-expose-headers": "x-b"},
        {"cors-allow-credentials": "true"},
        {"cors-max-age": "7s"},
    ],
    "fault": [
        {"fault-delay": "2s"},
        {"fault-delay-percent": "10"},
        {"fault-abort": "503"},
        {"fault-abort-percent": "20"},
    ],
    "headers": [{"request-headers": "set x-a=1"}, {"response-headers": "remove x-b"}],
    "mirror": [{"mirror-service": "app-v1.shop:80"}, {"mirror-percent": "10"}, {"mirror-body-limit": "5"}],
    "otel": [{"tracing": "true"}, {"trace-sample": "0.5"}],
    "redirect": [
        {"redirect-scheme": "https"},
        {"redirect-host": "a.example"},
        {"redirect-port": "444"},
        {"redirect-path": "/new"},
        {"redirect-prefix": "/old"},
        {"redirect-status": "308"},
    ],
    "retry": [
        {"retry-attempts": "5"},
        {"retry-on": "502-504,unavailable"},
        {"retry-timeout": "9s"},
        {"retry-backoff": "9s"},
        {"retry-budget": "9"},
    ],
    "rewrite": [{"rewrite-host": "a.example"}, {"rewrite-path": "/new"}, {"rewrite-prefix": "/old"}],
    "session": [
        {"session-cookie": "id"},
        {"session-header": "x-id"},
        {"session-path": "/a"},
        {"session-lifetime": "60s"},
        {"session-idle-timeout": "30s"},
        {"session-permanent": "true"},
    ],
    "timeout": [{"request-timeout": "9s"}, {"backend-request-timeout": "3s"}],
}
"""Annotations by plugin: each step adds one, and every one must change what is described."""


def describe(kind, annotations):
    """Describe the middlewares of a service with these annotations."""
    given = {f"maesh.containo.us/{name}": value for name, value in annotations.items()}
    documents = build_shop(build_service("one", annotations=given), build_pod("one-0", "10.0.3.1", "one", app="one"))
    state = build_state(documents, plugins=(kind,))
    request = ExplainedRequest(client="shop/web-0", service="shop/one", path="/old/x")
    found = state.explain(request, state.build_explainer(ObjectKey("shop", "one")))
    assert found.outcome != "closed", found.steps
    return found.limits


@pytest.mark.parametrize("kind", KINDS)
def test_every_annotation_changes_the_description(kind):
    annotations, described = {}, ()
    for step in KINDS[kind]:
        annotations |= step
        lines = describe(kind, annotations)
        assert lines != described, step
        assert all(line.startswith(f"{kind}: ") and len(line) > len(kind) + 2 for line in lines)
        assert not any(line.startswith(f"{kind}: {{") for line in lines), "settings are not described"
        described = lines


def test_every_shipped_builder_describes_its_settings():
    installed = tuple(each for each in list_installed() if each.name in SHIPPED and each.name != "mtls")
    builders = load_plugins("controller", installed, {}).collect("maesh_middleware_builders")
    assert len(builders) > 10
    assert [each.kind for each in builders if not hasattr(each, "describe")] == []
