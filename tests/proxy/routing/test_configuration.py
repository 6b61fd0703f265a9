"""Scripts of updates against recording handlers: what each table holds, what is refused, what stays untouched."""

import json
from itertools import pairwise
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import HttpRouter, Middleware, Section, Server, Service, StreamRouter
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.plugin_system.middleware import Middleware as BuiltMiddleware
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint


class RecordingHandler:
    """A protocol's handler whose tables are what it was given."""

    def __init__(self, name: str, transport: str, router_type: type[Any]) -> None:
        self.name = name
        self.transport = transport
        self.router_type = router_type
        self.compiled: list[tuple[Section, dict[str, Any], frozenset[str] | None]] = []
        self.tables: list[Section] = []
        self.error: Exception | None = None

    def compile_table(self, section: Section, *, middlewares: Any, changed: frozenset[str] | None) -> Section:
        if self.error is not None:
            raise self.error
        self.compiled.append((section, dict(middlewares), changed))
        return section

    def apply_table(self, table: Section) -> None:
        self.tables.append(table)


class StampSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: int = 0


class Stamp(BuiltMiddleware):
    """A middleware for requests and for connections."""

    def on_request(self, exchange: Any) -> None:
        pass

    def on_connect(self, connection: Any) -> None:
        pass


class StampFactory:
    """Builds a fresh object each time; raises for value 13."""

    kind = "stamp"
    settings_type = StampSettings

    def __init__(self) -> None:
        self.built: list[tuple[int, str]] = []

    def build_middleware(self, settings: StampSettings, service: str) -> BuiltMiddleware:
        if settings.value == 13:
            raise RuntimeError("unlucky")
        self.built.append((settings.value, service))
        return Stamp()


class Proxy:
    """A routing configuration with http and tcp, and the middleware kind `stamp`."""

    def __init__(self, guards: tuple[str, ...] = ()) -> None:
        self.http = RecordingHandler("http", "TCP", HttpRouter)
        self.tcp = RecordingHandler("tcp", "TCP", StreamRouter)
        self.factory = StampFactory()
        self.applied = 0
        handlers = cast("Any", {"http": self.http, "tcp": self.tcp})
        self.configuration = RoutingConfiguration(
            handlers, {"stamp": self.factory}, guards=guards, balancers=BalancerKinds()
        )

    def apply(self, *, full: bool = False, since: str | None = None, **fields: Any) -> None:
        fields.setdefault("revision", f"e.{self.applied + 1}")
        update = Update(full=full, **fields)
        self.configuration.apply_update(update, since=None if full else since or self.configuration.revision)
        self.applied += 1

    @property
    def table(self) -> Section:
        return self.http.tables[-1]


def router(service: str | None = "s", **fields: Any) -> HttpRouter:
    return HttpRouter(entrypoint=fields.pop("entrypoint", 5000), hosts=("a.b.maesh",), service=service, **fields)


def service(*ports: int) -> Service:
    return Service(servers=tuple(Server(address="10.0.0.1", port=port) for port in ports or (80,)))


def stamp(value: Any) -> Middleware:
    return Middleware(kind="stamp", settings={"value": value})


BASE = Section(
    routers={"r": router(middlewares=("n/s/stamp",))}, services={"s": service()}, middlewares={"n/s/stamp": stamp(1)}
)


def test_a_full_configuration_gives_every_handler_its_whole_table() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    section, middlewares, changed = proxy.http.compiled[0]
    assert (section, changed) == (BASE, None)
    assert list(middlewares) == ["n/s/stamp"]
    assert proxy.factory.built == [(1, "n/s")]
    assert proxy.tcp.tables == [Section()]
    assert proxy.configuration.revision == "e.1"


def test_a_full_configuration_replaces_what_was_there() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE, "udp": Section(routers={"u": {"entrypoint": 1}})})
    proxy.apply(full=True, sections={"tcp": Section()})
    assert proxy.table == Section()
    assert proxy.configuration.refused == {}
    assert proxy.configuration.list_entrypoints() == frozenset()


def test_a_full_configuration_that_says_nothing_new_compiles_nothing() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE, "udp": Section(routers={"u": {"entrypoint": 1}})})
    again = Section(
        routers={"r": msgspec.structs.replace(BASE.routers["r"], revision=7)},
        services={"s": msgspec.structs.replace(BASE.services["s"], revision=8)},
        middlewares={"n/s/stamp": msgspec.structs.replace(BASE.middlewares["n/s/stamp"], revision=9)},
    )
    proxy.apply(full=True, sections={"http": again, "udp": Section(routers={"u": {"entrypoint": 1}})})
    assert (len(proxy.http.compiled), len(proxy.tcp.compiled)) == (1, 1)
    assert proxy.configuration.revision == "e.2"
    assert set(proxy.configuration.refused) == {"udp/routers/u"}


def test_a_full_configuration_after_another_names_only_what_differs() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(full=True, sections={"http": Section(routers=BASE.routers, services={"s": service(1), "t": service()})})
    assert proxy.http.compiled[-1][2] == {"r", "s", "t"}
    assert proxy.configuration.refused == {"http/routers/r": "middleware n/s/stamp is not in the configuration"}


def test_a_delta_changes_what_it_names_and_says_so_to_the_handler() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(sections={"http": Section(services={"s": service(81, 82)}), "tcp": Section()})
    section, _, changed = proxy.http.compiled[-1]
    assert section.services == {"s": service(81, 82)}
    assert section.routers == BASE.routers
    assert changed == {"s"}
    assert len(proxy.tcp.compiled) == 1


def test_a_delta_removes_routers_services_and_middlewares() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(removed=("http/routers/r", "http/services/s", "http/middlewares/n/s/stamp"))
    section, middlewares, changed = proxy.http.compiled[-1]
    assert section == Section()
    assert middlewares == {}
    assert changed == {"r", "s"}


def test_what_a_delta_removes_and_names_again_is_there() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(removed=("http/services/s",), sections={"http": Section(services={"s": service(9)})})
    assert proxy.table.services == {"s": service(9)}


@pytest.mark.parametrize("since", [None, "e.0"])
def test_a_delta_is_refused_unless_it_follows_the_current_revision(since: str | None) -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    with pytest.raises(UpdateRejectedError, match="but a full one is needed"):
        proxy.configuration.apply_update(Update(revision="e.2", full=False), since=since)
    assert proxy.configuration.revision == "e.1"


def test_a_delta_before_any_configuration_is_refused() -> None:
    with pytest.raises(UpdateRejectedError):
        Proxy().configuration.apply_update(Update(revision="e.2", full=False), since=None)


def test_a_middleware_keeps_its_object_while_its_settings_stay() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(sections={"http": Section(middlewares={"n/s/stamp": stamp(1)}, routers=BASE.routers)})
    proxy.apply(full=True, sections={"http": BASE})
    instances = {middlewares["n/s/stamp"] for _, middlewares, _ in proxy.http.compiled}
    assert len(instances) == 1


def test_a_middleware_with_other_settings_is_built_anew_and_its_routers_are_compiled_again() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(sections={"http": Section(middlewares={"n/s/stamp": stamp(2)})})
    assert proxy.http.compiled[0][1] != proxy.http.compiled[1][1]
    assert proxy.http.compiled[1][2] == {"r"}


@pytest.mark.parametrize(
    ("middleware", "reason"),
    [
        (Middleware(kind="gone"), "middleware gone is not loaded by this proxy"),
        (stamp("x"), "middleware stamp has invalid settings"),
        (Middleware(kind="stamp", settings={"other": 1}), "middleware stamp has invalid settings"),
        (stamp(13), "middleware stamp could not be built"),
    ],
)
def test_routers_of_a_middleware_that_cannot_be_had_answer_503(middleware: Middleware, reason: str) -> None:
    proxy = Proxy()
    section = Section(
        routers={"bad": router(middlewares=("m",)), "good": router()},
        services={"s": service()},
        middlewares={"m": middleware},
    )
    stream = StreamRouter(entrypoint=10000, service="s", middlewares=("m",))
    tcp = Section(routers={"t": stream}, services={"s": service()}, middlewares={"m": middleware})
    proxy.apply(full=True, sections={"http": section, "tcp": tcp})
    bad = proxy.table.routers["bad"]
    assert (bad.service, bad.status, bad.middlewares, bad.hosts) == (None, 503, (), ("a.b.maesh",))
    assert bad.reason == reason
    assert proxy.table.routers["good"] == router()
    assert proxy.tcp.tables[-1].routers == {}
    assert set(proxy.configuration.refused) == {"http/routers/bad", "tcp/routers/t"}
    assert WantedEntrypoint("TCP", 10000, "tcp") in proxy.configuration.list_entrypoints()


def test_a_refused_router_is_carried_once_its_references_are_there() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": Section(routers={"r": router(middlewares=("m",))})})
    assert proxy.configuration.refused == {"http/routers/r": "service s is not in the configuration"}
    proxy.apply(sections={"http": Section(services={"s": service()})})
    assert proxy.configuration.refused == {"http/routers/r": "middleware m is not in the configuration"}
    proxy.apply(sections={"http": Section(middlewares={"m": stamp(1)})})
    assert proxy.configuration.refused == {}
    assert proxy.table.routers["r"].service == "s"
    proxy.apply(removed=("http/services/s",))
    assert proxy.table.routers["r"].status == 503


def test_a_scheme_that_is_not_carried_refuses_the_router() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": Section(routers={"r": router()}, services={"s": Service(scheme="h2c")})})
    assert proxy.configuration.refused == {"http/routers/r": "scheme h2c is not supported by this proxy"}
    proxy.apply(sections={"http": Section(services={"s": Service()})})
    assert proxy.configuration.refused == {}


def test_a_load_balancer_that_is_not_known_refuses_the_router_until_it_is_another() -> None:
    proxy = Proxy()
    odd, known = (Service(load_balancer=kind) for kind in ("fastest", "least-request"))
    proxy.apply(full=True, sections={"http": Section(routers={"r": router()}, services={"s": odd})})
    assert proxy.configuration.refused == {"http/routers/r": "load balancer fastest is not loaded by this proxy"}
    proxy.apply(full=False, sections={"http": Section(services={"s": known})})
    assert proxy.configuration.refused == {}


def test_routers_of_a_protocol_that_is_not_loaded_are_refused_by_name() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"udp": Section(routers={"n/dns:53": {"entrypoint": 15000, "service": "s"}})})
    assert proxy.configuration.refused == {"udp/routers/n/dns:53": "protocol udp is not loaded by this proxy"}
    proxy.apply(removed=("udp/routers/n/dns:53",))
    assert proxy.configuration.refused == {}


def test_what_an_exception_says_is_shown_to_those_who_run_the_mesh_and_to_no_client() -> None:
    proxy = Proxy()
    odd = Middleware(kind="stamp", settings={"value": "x"})
    section = Section(
        routers={"raised": router(middlewares=("m",)), "settings": router(middlewares=("o",))},
        services={"s": service()},
        middlewares={"m": stamp(13), "o": odd},
    )
    proxy.apply(full=True, sections={"http": section})
    assert proxy.configuration.refused == {
        "http/routers/raised": "middleware stamp could not be built: RuntimeError: unlucky",
        "http/routers/settings": ("middleware stamp has invalid settings: Expected `int`, got `str` - at `$.value`"),
    }
    assert {each.reason for each in proxy.table.routers.values()} == {
        "middleware stamp could not be built",
        "middleware stamp has invalid settings",
    }


class Misspelt:
    def on_requst(self, exchange: Any) -> None:
        pass


class OnlyRequests:
    def on_request(self, exchange: Any) -> None:
        pass


class OnlyConnections:
    on_request = None

    def on_connect(self, connection: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("type_", "carried", "word"),
    [
        (Misspelt, set(), "did you mean on_request?"),
        (object, set(), "none of the methods"),
        (OnlyRequests, {"http"}, "has no on_connect"),
        (OnlyConnections, {"tcp"}, "no method that is called for a request"),
        (Stamp, {"http", "tcp"}, ""),
    ],
)
def test_a_route_that_a_middleware_cannot_watch_over_is_closed(type_: type, carried: set[str], word: str) -> None:
    proxy = Proxy()
    proxy.factory.build_middleware = lambda settings, service: type_()
    stream = StreamRouter(entrypoint=10000, service="s", middlewares=("n/s/stamp",))
    tcp = Section(routers={"t": stream}, services=BASE.services, middlewares=BASE.middlewares)
    proxy.apply(full=True, sections={"http": BASE, "tcp": tcp})
    assert (proxy.table.routers["r"].service == "s") is ("http" in carried)
    assert bool(proxy.tcp.tables[-1].routers) is ("tcp" in carried)
    assert len(proxy.configuration.refused) == 2 - len(carried)
    assert all(word in reason for reason in proxy.configuration.refused.values())


@pytest.mark.parametrize("made_with", [(), ("smi",), ("acl",), ("forward-auth",)])
def test_every_guard_of_a_proxy_is_missed_by_name(made_with: tuple[str, ...]) -> None:
    proxy = Proxy(guards=("forward-auth", "acl"))
    proxy.apply(full=True, sections={"http": BASE}, plugins=made_with)
    missing = "forward-auth" if "acl" in made_with else "acl"
    refused = proxy.table.routers["r"]
    assert (refused.service, refused.status) == (None, 403)
    assert refused.reason == f"the configuration was made without plugin {missing}, which this proxy enforces"
    proxy.apply(plugins=("acl", "forward-auth", "smi"))
    assert proxy.table == BASE


def test_a_document_that_does_not_say_what_it_was_made_with_was_made_without_any_guard() -> None:
    proxy = Proxy(guards=("acl",))
    document = json.loads(render_update(Update(revision="e.1", full=True, sections={"http": BASE}, plugins=("acl",))))
    del document["plugins"]
    update = parse_update(json.dumps(document).encode(), proxy.configuration.get_router_types())
    proxy.configuration.apply_update(update, since=None)
    assert proxy.table.routers["r"].status == 403


def test_what_a_guard_watches_that_the_proxy_has_not_loaded_stays_closed() -> None:
    proxy = Proxy()
    middlewares = {"n/s/acl": Middleware(kind="acl")}
    section = Section(
        routers={"r": router(middlewares=("n/s/acl",))}, services={"s": service()}, middlewares=middlewares
    )
    stream = StreamRouter(entrypoint=10000, service="s", middlewares=("n/s/acl",))
    tcp = Section(routers={"t": stream}, services={"s": service()}, middlewares=middlewares)
    proxy.apply(full=True, sections={"http": section, "tcp": tcp}, plugins=("acl",))
    assert (proxy.table.routers["r"].service, proxy.table.routers["r"].status) == (None, 503)
    assert proxy.tcp.tables[-1].routers == {}


def test_a_proxy_that_enforces_acl_answers_403_to_a_configuration_made_without_it() -> None:
    proxy = Proxy(guards=("acl",))
    tcp = Section(routers={"t": StreamRouter(entrypoint=10000, service="s")}, services={"s": service()})
    proxy.apply(full=True, sections={"http": BASE, "tcp": tcp})
    assert (proxy.table.routers["r"].status, proxy.table.routers["r"].service) == (403, None)
    assert proxy.tcp.tables[-1].routers == {}
    assert len(proxy.configuration.refused) == 2


def test_the_403_of_a_proxy_with_acl_goes_and_comes_with_the_controllers_plugin() -> None:
    proxy = Proxy(guards=("acl",))
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(plugins=("acl",))
    assert proxy.table == BASE
    assert proxy.http.compiled[-1][2] is None
    proxy.apply(sections={"http": Section(routers={"q": router()})})
    assert {r.status for r in proxy.table.routers.values()} == {403}
    assert len(proxy.configuration.refused) == 2


def test_a_handler_that_raises_refuses_the_update_for_all_protocols() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.tcp.error = ValueError("no")
    with pytest.raises(UpdateRejectedError, match="protocol tcp refused it: ValueError: no"):
        proxy.apply(full=True, sections={"tcp": Section(services={"s": service()})})
    assert proxy.table == BASE
    assert proxy.configuration.revision == "e.1"
    proxy.tcp.error = None
    proxy.apply(sections={"http": Section(services={"s": service(1)})})
    assert proxy.table.routers == BASE.routers


def test_entrypoints_are_counted_through_deltas() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(sections={"http": Section(routers={"q": router(), "p": router(entrypoint=5001)})})
    proxy.apply(sections={"http": Section(routers={"p": router(entrypoint=5002)})}, removed=("http/routers/r",))
    assert {e.port for e in proxy.configuration.list_entrypoints()} == {5000, 5002}
    proxy.apply(removed=("http/routers/q",))
    assert {e.port for e in proxy.configuration.list_entrypoints()} == {5002}


VALID = json.loads(
    render_update(
        Update(
            revision="e.9",
            full=True,
            plugins=("retry",),
            sections={
                "http": BASE,
                "tcp": Section(
                    routers={"t": StreamRouter(entrypoint=10000, service="s")},
                    services={"s": Service(servers=(Server(address="::1", port=1, weight=0),))},
                ),
                "udp": Section(routers={"u": {"entrypoint": 15000, "service": "s"}}, services={"s": service()}),
            },
        )
    )
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["r", "s", "http/routers/r", "http/services/s", "10.0.0.1", "stamp", "\0", "h" * 2000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def _list_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, inner in items for place in _list_places(inner, (*path, key))]


@st.composite
def mutated_documents(draw: st.DrawFn) -> bytes:
    document = json.loads(json.dumps(VALID))
    for _ in range(draw(st.integers(1, 3))):
        places = _list_places(document)
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        parent = document
        for key in way:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "remove", "rename"]))
        if action == "remove" or (action == "rename" and isinstance(parent, list)):
            del parent[last]
        elif action == "rename":
            parent[draw(st.text(max_size=5))] = parent.pop(last)
        else:
            parent[last] = draw(JUNK)
    body = json.dumps(document).encode()
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 9)) == 0 else body


@given(body=st.one_of(mutated_documents(), st.binary(max_size=50)), has_base=st.booleans())
def test_whatever_the_controller_sends_is_taken_whole_or_refused_whole(body: bytes, has_base: bool) -> None:
    proxy = Proxy()
    configuration = proxy.configuration
    if has_base:
        proxy.apply(full=True, sections={"http": BASE})
    before = (configuration.revision, configuration.refused, configuration.list_entrypoints(), len(proxy.http.tables))
    try:
        update = parse_update(body, configuration.get_router_types())
        configuration.apply_update(update, since=configuration.revision)
    except UpdateRejectedError:
        after = (
            configuration.revision,
            configuration.refused,
            configuration.list_entrypoints(),
            len(proxy.http.tables),
        )
        assert after == before
        return
    assert configuration.revision == update.revision
    for router in proxy.table.routers.values() if proxy.http.tables else ():
        assert router.service is None or router.service in proxy.table.services
        assert all(key in proxy.table.middlewares for key in router.middlewares)


KEYS = st.sampled_from(["a", "b", "c"])
SECTIONS = st.builds(
    Section,
    routers=st.dictionaries(
        KEYS,
        st.builds(
            HttpRouter,
            entrypoint=st.integers(5000, 5002),
            hosts=st.just(("h",)),
            service=st.none() | KEYS,
            middlewares=st.lists(KEYS, max_size=2).map(tuple),
        ),
    ),
    services=st.dictionaries(KEYS, st.sampled_from([service(), service(81), Service(scheme="h2c")])),
    middlewares=st.dictionaries(KEYS, st.sampled_from([stamp(1), stamp(13), Middleware(kind="gone")])),
)
DELTAS = st.tuples(
    SECTIONS,
    st.lists(st.tuples(st.sampled_from(["routers", "services", "middlewares"]), KEYS).map("http/{0[0]}/{0[1]}".format)),
    st.sampled_from([(), ("acl",)]),
)


@given(deltas=st.lists(DELTAS, max_size=5), other=SECTIONS, plugins=st.sampled_from([(), ("acl",)]))
def test_the_way_to_a_configuration_leaves_no_trace(
    deltas: list[Any], other: Section, plugins: tuple[str, ...]
) -> None:
    """A row of deltas ends where one full configuration does; so does a full one after them."""
    by_delta = Proxy(plugins)
    by_delta.apply(full=True)
    merged: dict[str, dict[str, Any]] = {"routers": {}, "services": {}, "middlewares": {}}
    told: tuple[str, ...] = ()
    for section, removed, told in deltas:
        by_delta.apply(sections={"http": section}, removed=tuple(removed), plugins=told)
        for path in removed:
            merged[path.split("/")[1]].pop(path.split("/")[2], None)
        for noun, objects in merged.items():
            objects.update(getattr(section, noun))
    at_once = Proxy(plugins)
    at_once.apply(full=True, sections={"http": Section(**merged)}, plugins=told)
    assert by_delta.table == at_once.table
    assert by_delta.configuration.refused == at_once.configuration.refused
    assert by_delta.configuration.list_entrypoints() == at_once.configuration.list_entrypoints()
    assert by_delta.http.compiled[-1][1].keys() == at_once.http.compiled[-1][1].keys()
    by_delta.apply(full=True, sections={"http": other}, plugins=told)
    afresh = Proxy(plugins)
    afresh.apply(full=True, sections={"http": other}, plugins=told)
    assert by_delta.table == afresh.table
    assert by_delta.configuration.refused == afresh.configuration.refused
    assert by_delta.configuration.list_entrypoints() == afresh.configuration.list_entrypoints()
    for before, after in pairwise(by_delta.http.compiled):
        assert after[2] is None or list_differences(before, after) <= after[2]


def list_differences(before: Any, after: Any) -> set[str]:
    """Name the routers and services that two compiled tables do not share, by what they are or stand on."""
    names = {key for noun in ("routers", "services") for key in {**getattr(before[0], noun), **getattr(after[0], noun)}}
    return {key for key in names if describe(before, key) != describe(after, key)}


def describe(compiled: Any, key: str) -> Any:
    section, instances, _ = compiled
    router = section.routers.get(key)
    used = [instances[name] for name in router.middlewares] if router is not None else []
    return router, section.services.get(key), used
