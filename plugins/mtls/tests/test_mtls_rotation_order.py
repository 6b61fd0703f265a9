"""Rotations in any order, with crashes, two leaders, late answers and nodes that are away.

The law: two nodes whose certificates are valid always accept each other.
"""

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from maesh_mtls.controller.authority.ca import make_authority
from maesh_mtls.controller.authority.effective import get_key_id, read_effective
from maesh_mtls.controller.authority.signing import prepare_signing
from maesh_mtls.controller.authority.state import SETTLED, parse_state, render_state
from maesh_mtls.controller.authority.stores import Stored
from maesh_mtls.controller.rotation.steps import (
    Change,
    MeshView,
    NotNowError,
    ReportedNode,
    abort,
    find_waiting,
    start,
    step,
)
from maesh_mtls.trust import hash_trust, split_bundle

from .certificates import encode

START = 1_800_000_000.0
LEAST_S = 60.0
LONGEST_ANSWER_S = 30.0
"""The enrolment process ends after this time."""
STALE_S = 90.0
"""A report is not active after this time."""
NODES = ("a", "b", "c")
PAIRS = [make_authority(datetime.fromtimestamp(START, UTC)) for _ in range(5)]


class Answer(NamedTuple):
    """A certificate of an authority, until a time, and the certificates to trust."""

    authority: str
    issuer: bytes
    bundle: str
    ends: float


class Recorded:
    """The mesh's store, as controllers use it that sign."""

    place = "the mesh's store"

    def __init__(self, mesh):
        self._mesh = mesh

    async def load(self):
        return self._mesh.load()

    def watch(self):
        raise AssertionError

    async def write(self, files, rotation, *, version):
        self._mesh.write(Change(files, parse_state(rotation), ""), version)


class Mesh:
    def __init__(self):
        self.now = START
        self.files = dict(PAIRS[0])
        self.rotation, self.version, self.made = "", 0, 0
        self.certificates: dict[str, Answer] = {}
        self.under_way: dict[str, tuple[float, Answer]] = {}
        self.reports: dict[str, tuple[float, ReportedNode]] = {}
        self.away: set[str] = set()
        self.decided = None

    def load(self):
        return Stored(files=dict(self.files), rotation=self.rotation, version=str(self.version))

    def write(self, change, version):
        """Write as a store does: nothing if the version is another one."""
        if change is None or version != str(self.version):
            return
        merged = {**self.files, **change.files}
        self.files = {name: content for name, content in merged.items() if content is not None}
        self.rotation, self.version = render_state(change.state), self.version + 1

    def view(self):
        active = [report for at, report in self.reports.values() if self.now - at <= STALE_S]
        return MeshView(NODES, active, True)

    # --- what happens

    def pass_phase(self, seconds):
        self.pass_time(seconds)
        self.lead()

    def renew(self, node, life_s):
        self.sign(node, life_s)
        self.deliver(node)

    def pass_time(self, seconds):
        self.now += seconds
        for node in sorted(self.under_way):
            if self.now - self.under_way[node][0] > LONGEST_ANSWER_S:
                del self.under_way[node]
        for node in NODES:
            self.report(node)

    def decide(self):
        """A leader computes a step, and is slow, or crashes."""
        stored = self.load()
        self.decided = (step(stored, self.view(), self.now, least_s=LEAST_S), stored.version)

    def write_decided(self):
        if self.decided is not None:
            self.write(*self.decided)

    def lead(self):
        self.decide()
        self.write_decided()

    def rotate(self):
        try:
            stored = self.load()
            self.made = (self.made + 1) % len(PAIRS)
            self.write(start(stored, PAIRS[self.made], self.now), stored.version)
        except NotNowError:
            pass

    def replace_by_hand(self):
        self.made = (self.made + 1) % len(PAIRS)
        self.files |= PAIRS[self.made]
        self.version += 1

    def abort(self):
        try:
            stored = self.load()
            self.write(abort(stored, self.now), stored.version)
        except NotNowError:
            pass

    def sign(self, node, life_s):
        """A controller signs as `prepare_signing` does; the answer arrives later, or never."""
        if node in self.away:
            return
        store = Recorded(self)
        stored = asyncio.run(prepare_signing(store, store.load, node, life_s, self.now))
        effective = read_effective(stored, datetime.fromtimestamp(self.now, UTC))
        (issuer,) = split_bundle(encode(effective.certificate))
        answer = Answer(get_key_id(effective), issuer, effective.bundle, self.now + life_s)
        self.under_way[node] = (self.now, answer)

    def deliver(self, node):
        if node in self.under_way:
            self.certificates[node] = self.under_way.pop(node)[1]
            self.report(node)

    def report(self, node):
        if node not in self.away and (own := self.certificates.get(node)) is not None:
            self.reports[node] = (self.now, ReportedNode(node, hash_trust(own.bundle), own.authority))

    def leave(self, node):
        self.away ^= {node}
        self.under_way.pop(node, None)

    def check(self):
        valid = {node: own for node, own in self.certificates.items() if self.now < own.ends}
        for one, first in valid.items():
            for other, second in valid.items():
                assert first.issuer in split_bundle(second.bundle), f"{other} refuses {one}"


node = st.sampled_from(NODES)
lives = st.sampled_from([3600.0, 86_400.0])
rotations = st.sampled_from([("rotate",), ("rotate",), ("replace_by_hand",), ("abort",)])
phases = st.tuples(st.just("pass_phase"), st.sampled_from([1.0, 20.0, 61.0, 61.0, 61.0, 4000.0, 90_000.0]))
signatures = st.one_of(
    st.tuples(st.just("renew"), node, lives),
    st.tuples(st.just("sign"), node, lives),
    st.tuples(st.just("deliver"), node),
)
leaders = st.sampled_from([("decide",), ("write_decided",), ("lead",)])
absences = st.tuples(st.just("leave"), node)
events = st.one_of(phases, phases, signatures, signatures, leaders, rotations, absences)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events, min_size=5, max_size=80))
def test_nodes_with_valid_certificates_always_accept_each_other(happened):
    mesh = Mesh()
    for name in NODES:
        mesh.renew(name, 3600.0)
    for name, *arguments in happened:
        getattr(mesh, name)(*arguments)
        mesh.check()


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=40))
def test_every_rotation_ends(happened):
    mesh = Mesh()
    for name, *arguments in happened:
        getattr(mesh, name)(*arguments)
    for _ in range(6):
        mesh.lead()
        mesh.pass_time(8 * 86_400.0)
    stored = mesh.load()
    assert parse_state(stored.rotation).phase == SETTLED
    assert find_waiting(stored, mesh.view(), mesh.now) == []
    assert mesh.files["tls.crt"] == mesh.files["signer.crt"]
