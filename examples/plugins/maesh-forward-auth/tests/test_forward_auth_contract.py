"""What holds for every plugin holds for this one."""

import pytest

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "forward-auth"
    settings = {"timeout": "2s", "connections": "4", "headers": "Authorization"}
    annotations = {"forward-auth-url": "http://127.0.0.1/check", "forward-auth-response-headers": "X-User"}
    bad_annotations = (
        {"forward-auth-url": "ftp://auth/"},
        {"forward-auth-url": "auth:9000"},
        {"forward-auth-url": "http://auth:99999/"},
        {"forward-auth-url": "http://"},
        {"forward-auth-response-headers": "X-User"},
        {"forward-auth-response-headers": "X User"},
        {"forward-auth-response-headers": "Content-Length"},
    )

    @pytest.fixture
    def good_annotations(self, start_upstream):
        return {**self.annotations, "forward-auth-url": f"http://127.0.0.1:{start_upstream('auth').port}/check"}
