"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "ratelimit"
    settings = {
        "accounts": "true",
        "headers": "true",
        "store": "node",
        "nodes": "3",
        "redis-url": "rediss://maesh@127.0.0.1:1/2",
        "redis-password-file": "/run/secrets/redis/password",
        "redis-ca-file": "/run/secrets/redis/ca.crt",
        "redis-certificate-file": "/run/secrets/redis/tls.crt",
        "redis-key-file": "/run/secrets/redis/tls.key",
        "redis-timeout": "200ms",
        "redis-prefix": "shop:",
    }
    annotations = {
        "ratelimit-average": "100",
        "ratelimit-burst": "200",
        "ratelimit-period": "1m",
        "ratelimit-source": "host",
        "ratelimit-limits": "hour: 1000/1h burst=50 source=ip,header:X-User",
        "ratelimit-store": "node",
        "ratelimit-headers": "true",
    }
    bad_annotations = (
        {"ratelimit-average": "-5"},
        {"ratelimit-burst": "many"},
        {"ratelimit-period": "0s"},
        {"ratelimit-source": "cookie"},
        {"ratelimit-limits": "hour"},
        {"ratelimit-store": "mars"},
        {"ratelimit-headers": "maybe"},
    )
