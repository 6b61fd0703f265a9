"""The names of pods in a worker: those of the configuration, for traffic of any age."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import Section
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.proxy.routing import current_pod_names
from maesh_core.proxy.routing.current_pod_names import CurrentPodNames

from .recording_proxy import BASE, Proxy

IP, OTHER = "10.0.0.1", "10.0.0.2"


class Names:
    """The names of a worker whose clock a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pods = CurrentPodNames(lambda: self.now)

    def apply(self, names: dict[str, str] | None = None, *removed: str, full: bool = False) -> None:
        paths = tuple(f"pods/addresses/{address}" for address in removed)
        self.pods.apply(Update(revision="e.1", full=full, pods=names, removed=paths))

    def find(self, address: str = IP, *, ago: float = 0.0) -> str:
        return self.pods.find(address, self.now - ago)


def test_a_name_applies_to_traffic_that_began_before_it_was_known() -> None:
    names = Names()
    assert names.find() == ""
    names.apply({IP: "n/p"}, full=True)
    names.now += 10
    names.apply({OTHER: "n/q"})
    assert (names.find(ago=50), names.find(OTHER, ago=50), names.find("10.0.0.3")) == ("n/p", "n/q", "")
    assert names.pods.changed_at == names.now
    assert repr(names.pods) == "<CurrentPodNames 2 names, 0 former>"


def test_traffic_that_began_when_another_pod_had_the_address_is_that_pods() -> None:
    names = Names()
    names.apply({IP: "n/old"}, full=True)
    names.now += 10
    names.apply({IP: "n/new"})
    names.now += 10
    assert (names.find(ago=11), names.find(ago=10), names.find()) == ("n/old", "n/new", "n/new")


def test_traffic_that_ends_after_its_pod_is_still_the_pods_but_later_traffic_is_not() -> None:
    names = Names()
    names.apply({IP: "n/old"}, full=True)
    names.now += 10
    names.apply(None, IP)
    names.now += 10
    assert (names.find(ago=15), names.find(ago=5)) == ("n/old", "")
    names.apply({IP: "n/new"})
    assert (names.find(ago=15), names.find(ago=5)) == ("n/old", "n/new")
    names.now += 10
    names.apply(None, IP)
    assert (names.find(ago=25), names.find(ago=5)) == ("", "n/new"), "only the last former pod is remembered"


def test_a_full_update_replaces_all_names() -> None:
    names = Names()
    names.apply({IP: "n/p", OTHER: "n/q"}, full=True)
    changed_at = names.pods.changed_at
    names.now += 10
    names.apply({OTHER: "n/q", IP: "n/p"}, full=True)
    assert names.pods.changed_at == changed_at
    names.apply({OTHER: "n/q"}, full=True)
    assert (names.find(), names.find(OTHER)) == ("", "n/q")
    names.apply(full=True)  # of a controller without the plugin
    assert names.find(OTHER) == ""


def test_above_the_limit_addresses_have_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_pod_names, "ADDRESSES_LIMIT", 2)
    names = Names()
    names.apply({"10.0.0.1": "n/p", "10.0.0.2": "n/q", "10.0.0.3": "n/r"}, full=True)
    assert [names.find(f"10.0.0.{number}") for number in (1, 2, 3)] == ["n/p", "n/q", ""]
    names.apply({"10.0.0.2": "n/s", "10.0.0.4": "n/t"}, "10.0.0.1")
    assert [names.find(f"10.0.0.{number}") for number in (1, 2, 4)] == ["", "n/s", "n/t"]


def test_former_pods_above_the_limit_are_forgotten_and_their_traffic_gets_no_other_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(current_pod_names, "FORMER_LIMIT", 1)
    names = Names()
    names.apply({IP: "n/old", OTHER: "n/other"}, full=True)
    names.now += 10
    names.apply(None, IP)
    names.now += 10
    names.apply(None, OTHER)
    names.now += 10
    names.apply({IP: "n/new"})
    assert (names.find(ago=25), names.find(ago=15)) == ("", "n/new")
    assert names.find(OTHER, ago=15) == "n/other"


def parse(document: Any, *, reads_pods: bool = True) -> Update:
    body = json.dumps({"revision": "e.1", "full": True, **document}).encode()
    return parse_update(body, {}, reads_pods=reads_pods)


@pytest.mark.parametrize(
    "section",
    [
        [],
        {"addresses": []},
        {"addresses": {IP: 1}},
        {"addresses": {IP: None}},
        {"addresses": {"name": "n/p"}},
        {"addresses": {"": "n/p"}},
        {"addresses": {IP: ""}},
        {"addresses": {IP: "p"}},
        {"addresses": {IP: "n/p\n"}},
        {"addresses": {IP: 'n/p"'}},
        {"addresses": {IP: "n/" + "p" * 254}},
    ],
)
def test_a_malformed_section_refuses_the_whole_update_and_names_nothing(section: Any) -> None:
    names = CurrentPodNames()
    proxy = Proxy(pod_names=names)
    with pytest.raises(UpdateRejectedError):
        proxy.configuration.apply_update(parse({"pods": section}), since=None)
    assert (names.find(IP, 0.0), proxy.configuration.revision) == ("", None)


def test_a_path_of_another_noun_is_refused() -> None:
    proxy = Proxy(pod_names=CurrentPodNames())
    proxy.apply(full=True)
    with pytest.raises(UpdateRejectedError, match="'pods/routers/x' is not the path of an object"):
        proxy.apply(removed=("pods/routers/x",))


def test_a_worker_that_does_not_use_names_ignores_the_section() -> None:
    proxy = Proxy()
    assert not proxy.configuration.reads_pods
    update = parse({"pods": {"addresses": 1}}, reads_pods=proxy.configuration.reads_pods)
    proxy.configuration.apply_update(update, since=None)
    proxy.apply(since="e.1", revision="e.2", removed=(f"pods/addresses/{IP}",))
    assert (proxy.configuration.revision, proxy.configuration.refused) == ("e.2", {})


def test_names_of_an_update_that_is_refused_are_not_used() -> None:
    names = CurrentPodNames()
    proxy = Proxy(pod_names=names)
    proxy.apply(full=True, sections={"http": BASE}, pods={IP: "n/p"})
    proxy.http.error = RuntimeError("no")
    with pytest.raises(UpdateRejectedError):
        proxy.apply(full=True, sections={"http": Section()}, pods={IP: "n/q"})
    assert names.find(IP, 0.0) == "n/p"


ADDRESSES = [IP, OTHER, "::1"]
ENTRIES = st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(["n/p", "n/q"]))
STEPS = st.lists(st.tuples(st.booleans(), ENTRIES, st.lists(st.sampled_from(ADDRESSES), max_size=2)), max_size=8)


@given(STEPS)
def test_any_updates_lead_to_their_names_and_traffic_never_has_that_of_a_pod_that_had_left_or_came_after_another(
    steps: list[tuple[bool, dict[str, str], list[str]]],
) -> None:
    names = Names()
    proxy = Proxy(pod_names=names.pods)
    proxy.apply(full=True)
    history: list[dict[str, str]] = [{}]
    for is_full, entries, removed in steps:
        names.now += 1
        paths = () if is_full else tuple(f"pods/addresses/{address}" for address in removed)
        sent = Update(revision=f"e.{proxy.applied + 1}", full=is_full, removed=paths, pods=entries)
        since = None if is_full else proxy.configuration.revision
        proxy.configuration.apply_update(parse_update(render_update(sent), {}, reads_pods=True), since=since)
        proxy.applied += 1
        kept = {} if is_full else {key: name for key, name in history[-1].items() if key not in removed}
        history.append({**kept, **entries})
    for address in ADDRESSES:
        assert names.find(address) == history[-1].get(address, "")
        for ago in range(len(history)):
            later = history[len(history) - 1 - ago :]
            next_name = next((each[address] for each in later if address in each), "")
            assert names.find(address, ago=ago) in ("", next_name)
