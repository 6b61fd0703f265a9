import pytest

from maesh_core.controller.kubernetes.paths import build_path


@pytest.mark.parametrize(
    ("api_version", "names", "path"),
    [
        ("v1", {}, "/api/v1/pods"),
        ("v1", {"namespace": "apps"}, "/api/v1/namespaces/apps/pods"),
        ("v1", {"namespace": "apps", "name": "web"}, "/api/v1/namespaces/apps/pods/web"),
        ("v1", {"name": "web", "subresource": "status"}, "/api/v1/pods/web/status"),
        ("apps/v1", {"name": "a.b"}, "/apis/apps/v1/pods/a.b"),
    ],
)
def test_a_path_names_group_namespace_name_and_subresource(api_version, names, path):
    assert build_path(api_version, "pods", **names) == path


def test_a_name_cannot_leave_its_place_in_the_path():
    assert build_path("v1", "pods", namespace="a/b", name="../x?y") == "/api/v1/namespaces/a%2Fb/pods/..%2Fx%3Fy"
