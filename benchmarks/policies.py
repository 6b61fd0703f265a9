"""What each traffic policy adds to a request, beside the bare route.

Requests go through the engine without sockets (engine.py), in turns of all policies. Those of a client that sends what
the policies read: an origin, a session cookie and codings. A share that is never drawn shows what the policy costs the
other requests. Takes options; prints a table.
"""

import argparse
import asyncio
from typing import Any

import msgspec
from access import HEADS, render_added
from engine import SERVER, SERVICE, Engine, build_request
from maesh_session.session_values import SessionValues
from processes import run_to_end

from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.plugin_system.middleware import Middleware
from maesh_testing import FakeNode

NEVER = 1e-12
KEY = "00" * 32
FIELDS = b"Origin: https://shop.example\r\nCookie: theme=dark; session=%b\r\nAccept-Encoding: gzip, br\r\n"

POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "headers, of requests": ("headers", {"request": [{"action": "set", "name": "X-Team", "value": "one"}]}),
    "headers, of responses": ("headers", {"response": [{"action": "set", "name": "X-Team", "value": "one"}]}),
    "redirect, to the same address": ("redirect", {"host": "bench.bench.maesh", "isOfService": True}),
    "rewrite, of the host": ("rewrite", {"host": "other.example"}),
    "rewrite, of a prefix": ("rewrite", {"path": {"prefix": "/items", "replacement": "/v2"}}),
    "cors": ("cors", {"origins": ["https://shop.example"], "methods": ["GET"]}),
    "fault, never drawn": ("fault", {"status": 503, "abortShare": NEVER}),
    "timeout": ("timeout", {"requestS": 10, "attemptS": 5}),
    "retry": (
        "retry",
        {
            "attempts": 2,
            "errors": ["reset"],
            "statuses": [[500, 599]],
            "timeoutS": 0,
            "bodyLimit": 65536,
            "backoffS": 0,
            "backoffLimitS": 1,
            "budget": 0.2,
        },
    ),
    "session": ("session", {"cookie": "session", "key": KEY}),
    "mirror, never drawn": (
        "mirror",
        {"mirrors": [{"name": "copy", "share": NEVER, "keys": {SERVICE: SERVICE}}], "body_limit": 65536},
    ),
    "compress, too small": ("compress", {"codings": ["gzip"], "minBytes": 1024, "types": ["text/*"]}),
    "compress": ("compress", {"codings": ["gzip"], "minBytes": 0, "types": ["text/*"]}),
}
"""The plugin and the settings of each row."""


def build_policies() -> dict[str, Middleware]:
    """Build the middleware of each row."""
    names = {name for name, _ in POLICIES.values()}
    loaded = load_plugins("proxy", [plugin for plugin in list_installed() if plugin.name in names], {})
    factories: dict[str, Any] = {
        factory.kind: factory for factory in loaded.collect("maesh_middleware_factories", node=FakeNode())
    }
    return {
        row: factories[name].build_middleware(msgspec.convert(values, factories[name].settings_type), SERVICE)
        for row, (name, values) in POLICIES.items()
    }


def build_policy_request(number: int = 1) -> bytes:
    """Build a request that has what the policies read."""
    values = SessionValues(bytes.fromhex(KEY), has_times=False)
    value = values.build(values.build_token("", SERVER), 0, 0)
    return build_request(number)[:-2] + FIELDS % value + b"\r\n"


async def measure(turns: int) -> str:
    """Measure all policies; returns the table."""
    variants = {"bare": Engine()} | {row: Engine([each]) for row, each in build_policies().items()}
    loads = ([build_policy_request()] * HEADS, [build_policy_request(number) for number in range(HEADS)])
    return render_added("policy", variants, loads, turns)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=15, help="how often each policy is measured (default 15)")
    print(asyncio.run(measure(parser.parse_args().turns)))
    return 0


if __name__ == "__main__":
    run_to_end(main)
