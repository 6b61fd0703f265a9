"""For random meshes, what controller and proxy let in is what a slow reading of the rules lets in."""

import random
from collections import Counter
from typing import Any

import pytest

from .conftest import (
    Cluster,
    build_group,
    build_pod,
    build_route,
    build_service,
    build_split,
    build_target,
)
from .oracle import admits

pytestmark = pytest.mark.slow

MESHES, REQUESTS = 75, 30
ACCOUNTS, SERVICES = ("a", "b", "c"), ("s0", "s1", "s2", "s3")
PATHS = ("/", "/api", "/api/x", "/admin", "/api/../admin", "/a//b", "/v1/api", "/v12?q=/api", "/%2e%2e/api")
PATTERNS = ("/api", "/", ".*", "/v[0-9]+", "/admin$", "/(api|admin)")
EXPECTED = {
    "split",
    "split with matches",
    "empty split",
    "ambiguous path",
    "source",
    "destination port",
    "route port",
    "missing rule",
    "missing match",
    "target with ",
    "target with HTTPRouteGroup",
    "target with TCPRoute",
    "target with HTTPRouteGroup+TCPRoute",
}


def draw_match(dice, number):
    match: dict[str, Any] = {"name": f"m{number}"}
    if dice.random() < 0.6:
        match["pathRegex"] = dice.choice(PATTERNS)
    if dice.random() < 0.4:
        match["methods"] = dice.sample(("GET", "POST", "*"), dice.randint(1, 2))
    if dice.random() < 0.3:
        match["headers"] = [{"x-group": dice.choice(("beta", "^be", "a$"))}]
    return match


def draw_rules(dice):
    rules = []
    for _ in range(dice.choice((0, 1, 1, 2))):
        kind = dice.choice(("HTTPRouteGroup", "HTTPRouteGroup", "TCPRoute", "UDPRoute"))
        name = {"HTTPRouteGroup": ("g0", "g1", "g2"), "TCPRoute": ("t0", "t1"), "UDPRoute": ("u0",)}[kind]
        chosen = dice.choice((*name, "nobody")) if dice.random() < 0.2 else dice.choice(name)
        names = ("m0",) if dice.random() < 0.2 else ("m9",) if dice.random() < 0.05 else ()
        rules.append((kind, chosen, *(names if kind == "HTTPRouteGroup" else ())))
    return rules


def draw_mesh(dice):
    objects = [build_service(name, target=dice.choice((8080, 9090))) for name in SERVICES]
    for number in range(8):
        app = dice.choice((*SERVICES, *SERVICES, ""))
        phase = dice.choice(("Running",) * 6 + ("Succeeded",))
        address = f"10.0.0.{number if app else dice.choice((number, number, 0))}"
        objects.append(build_pod(f"p{number}", address, dice.choice(ACCOUNTS), app=app, phase=phase))
    objects += [build_group(f"g{each}", *(draw_match(dice, n) for n in range(dice.randint(1, 2)))) for each in range(3)]
    objects += [build_route("TCPRoute", "t0"), build_route("TCPRoute", "t1", (9090,)), build_route("UDPRoute", "u0")]
    for number in range(dice.randint(3, 9)):
        port = dice.choice((None, None, None, 8080, 9090))
        sources = dice.sample(ACCOUNTS, dice.randint(1, 3))
        objects.append(build_target(f"target{number}", dice.choice(ACCOUNTS), sources, draw_rules(dice), port=port))
    for number in range(dice.choice((0, 0, 1, 2, 3))):
        backends = dice.sample((*SERVICES, "nobody"), dice.randint(1, 2))
        weights = {backend: dice.choice((0, 1, 1, 3)) for backend in backends}
        matches = [dice.choice(("g0", "g1", "nobody"))] if dice.random() < 0.4 else []
        objects.append(build_split(f"split{number}", dice.choice(SERVICES), weights, matches))
    return objects


def draw_request(dice):
    headers = {"x-group": dice.choice(("beta", "alpha"))} if dice.random() < 0.5 else {}
    address = f"10.0.0.{dice.randint(0, 8)}"
    return address, dice.choice(SERVICES), dice.choice(("GET", "POST")), dice.choice(PATHS), headers


def test_what_is_let_in_is_what_the_rules_say():
    dice = random.Random(20200710)
    admitted, decided = 0, Counter()
    for _ in range(MESHES):
        objects = draw_mesh(dice)
        cluster = Cluster(*objects)
        for _ in range(REQUESTS):
            client, service, method, path, headers = draw_request(dice)
            expected, rules = admits(objects, client, service, method, path, headers)
            status, _ = cluster.ask(client, service, method=method, path=path, headers=headers)
            assert (status == 200) is expected, (client, service, method, path, headers, rules, objects)
            admitted += expected
            decided.update(rules)
    assert admitted >= 0.3 * MESHES * REQUESTS, f"only {admitted} of {MESHES * REQUESTS} were let in"
    assert decided.keys() >= EXPECTED, EXPECTED - decided.keys()
