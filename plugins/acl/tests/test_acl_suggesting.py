"""From traffic to rules: under what is suggested, everything that was observed passes, and nothing else does."""

import json
import random

import pytest
from maesh_acl.suggesting import Observation, PathOptions, suggest

from maesh_core.controller.topology.rendering import render_topology
from maesh_core.plugin import ObjectKey

from .conftest import Cluster, build_pod, build_service

CLIENTS = ("web", "mobile", "batch", "default")
METHODS = ("GET", "POST", "DELETE")
WORDS = ("orders", "users", "a.b", "x+y", "v1", "(", "[a]", "%C3%A9", "17", "cart$", "~me", "%20")


def render(cluster, services):
    """The topology as a controller serves it."""
    return json.loads(json.dumps(render_topology(map(cluster.build_node, services))))


def observe(client, service, method="GET", path="/", **fields):
    account = ObjectKey("shop", client)
    key = f"shop/{service}:80"
    return Observation(service=key, client=account, method=method, path=path, **fields)


def apply(objects, found):
    return [*objects, *(document for each in found.suggestions for document in each.documents)]


def find_address(objects, account):
    return next(
        each["status"]["podIP"]
        for each in objects
        if each["kind"] == "Pod" and each["spec"]["serviceAccountName"] == account
    )


# --- the law


def draw_path(dice):
    return "/" + "/".join(dice.choice(WORDS) for _ in range(dice.randint(0, 3)))


def draw_mesh(dice, *, accounts):
    """Ten services over HTTP, TCP and UDP; each has pods of one or two accounts. Clients have pods, too."""
    objects, kinds = [], {}
    for number in range(10):
        name, kind = f"s{number}", dice.choice(("http", "http", "http", "tcp", "udp"))
        kinds[name] = kind
        protocol = "UDP" if kind == "udp" else "TCP"
        objects.append(build_service(name, kind=kind, protocol=protocol, target=dice.choice((8080, 9090))))
        for pod in range(dice.randint(1, 2)):
            account = dice.choice(accounts) if accounts else f"{name}-{pod}"
            objects.append(build_pod(f"{name}-{pod}", f"10.0.{number}.{pod}", account, app=name))
    objects += [build_pod(f"client-{name}", f"10.1.0.{n}", name) for n, name in enumerate(CLIENTS)]
    return objects, kinds


def draw_traffic(dice, kinds):
    """An hour of traffic: some pairs of client and service, with some requests each."""
    found = []
    for client in CLIENTS:
        for service in dice.sample(sorted(kinds), dice.randint(1, 5)):
            kind = kinds[service]
            if kind != "http":
                found.append(observe(client, service, "", "", traffic_type=kind))
                continue
            for _ in range(dice.randint(1, 12)):
                path = f"/users/{dice.randint(1, 9999)}" if dice.random() < 0.3 else draw_path(dice)
                found.append(observe(client, service, dice.choice(METHODS), path))
    dice.shuffle(found)
    return found


def build_asker(cluster, objects, kinds):
    """What sends a request of a client through the real controller and proxy, and says whether it passes."""
    routes, streams = {}, {}

    def ask(client, service, method="GET", path="/"):
        address = find_address(objects, client)
        if kinds[service] != "http":
            if (client, service) not in streams:
                streams[client, service] = cluster.connect(address, service)[0]
            return streams[client, service]
        if service not in routes:
            routes[service] = cluster.open(service)
        return routes[service](address, method, path, {})[0] == 200

    return ask


@pytest.mark.parametrize("seed", range(6))
def test_all_that_was_observed_passes_and_every_other_pair_is_denied(seed):
    dice = random.Random(seed)
    objects, kinds = draw_mesh(dice, accounts=())
    traffic = draw_traffic(dice, kinds)
    found = suggest(render(Cluster(*objects), kinds), traffic)
    assert not found.left_out
    ask = build_asker(Cluster(*apply(objects, found)), objects, kinds)
    for each in traffic:
        service = each.service.removeprefix("shop/").removesuffix(":80")
        assert ask(each.client.name, service, each.method, each.path), each
    pairs = {(each.client.name, each.service) for each in traffic}
    for client in CLIENTS:
        for service in kinds:
            if (client, f"shop/{service}:80") not in pairs:
                for method, path in (("GET", "/"), ("POST", "/users/1"), ("GET", draw_path(dice))):
                    assert not ask(client, service, method, path), (client, service)


@pytest.mark.parametrize("seed", range(6))
def test_without_templates_no_other_request_passes(seed):
    dice = random.Random(100 + seed)
    objects, kinds = draw_mesh(dice, accounts=())
    traffic = draw_traffic(dice, kinds)
    found = suggest(render(Cluster(*objects), kinds), traffic, PathOptions(evidence=0))
    ask = build_asker(Cluster(*apply(objects, found)), objects, kinds)
    sent = {(each.client.name, each.service, each.method, each.path) for each in traffic}
    for client, service in ((each.client.name, each.service) for each in traffic if each.traffic_type == "http"):
        name = service.removeprefix("shop/").removesuffix(":80")
        for method in METHODS:
            path = dice.choice((draw_path(dice), dice.choice(traffic).path or "/", "/users/1/keys"))
            passes = ask(client, name, method, path)
            assert passes is ((client, service, method, path) in sent), (client, service, method, path)


@pytest.mark.parametrize("seed", range(6))
def test_with_shared_accounts_every_pair_that_opens_is_announced(seed):
    dice = random.Random(200 + seed)
    objects, kinds = draw_mesh(dice, accounts=("a", "b", "c", "d"))
    traffic = draw_traffic(dice, kinds)
    found = suggest(render(Cluster(*objects), kinds), traffic)
    ask = build_asker(Cluster(*apply(objects, found)), objects, kinds)
    announced = {
        (client.name, key)
        for each in found.suggestions
        for client in each.rule.clients
        for key in (*each.rule.leaves, *each.rule.also_opens)
    }
    for each in traffic:
        service = each.service.removeprefix("shop/").removesuffix(":80")
        assert ask(each.client.name, service, each.method, each.path), each
    for client in CLIENTS:
        for service in kinds:
            if (client, f"shop/{service}:80") not in announced:
                for each in dice.sample(traffic, 20):
                    assert not ask(client, service, each.method or "GET", each.path or "/"), (client, service)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_applied_is_not_suggested_again(seed):
    dice = random.Random(300 + seed)
    objects, kinds = draw_mesh(dice, accounts=("a", "b", "c", "d"))
    traffic = draw_traffic(dice, kinds)
    half = traffic[: len(traffic) // 2]
    first = suggest(render(Cluster(*objects), kinds), half)
    applied = apply(objects, first)
    again = suggest(render(Cluster(*applied), kinds), half)
    assert (again.suggestions, again.allowed) == ((), len(half))
    rest = suggest(render(Cluster(*applied), kinds), traffic)
    assert not {each.name for each in rest.suggestions} & {each.name for each in first.suggestions}
    ask = build_asker(Cluster(*apply(applied, rest)), objects, kinds)
    for each in traffic:
        service = each.service.removeprefix("shop/").removesuffix(":80")
        assert ask(each.client.name, service, each.method, each.path), each
