"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract

from .token_keys import build_key_set


class TestContract(PluginContract):
    name = "jwt"
    required_settings = {"keys": build_key_set("ES256")}
    settings = {"issuer": "a", "audience": "b", "header": "X-Token", "leeway": "5s"}
