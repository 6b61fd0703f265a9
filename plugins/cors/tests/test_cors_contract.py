"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "cors"
    annotations = {
        "cors-allow-origins": "https://shop.example, https://*.shop.example",
        "cors-allow-methods": "GET, PUT",
        "cors-allow-headers": "Authorization",
        "cors-allow-credentials": "true",
        "cors-expose-headers": "X-Total",
        "cors-max-age": "10m",
    }
    bad_annotations = (
        {"cors-allow-origins": "shop.example"},
        {"cors-allow-origins": "*", "cors-allow-methods": "get"},
        {"cors-allow-origins": "*", "cors-allow-headers": "a b"},
        {"cors-allow-origins": "*", "cors-allow-credentials": "maybe"},
        {"cors-allow-origins": "*", "cors-expose-headers": "*, X-Total"},
        {"cors-allow-origins": "*", "cors-max-age": "long"},
    )
