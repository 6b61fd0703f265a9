"""The service that keeps the certificate valid, through days of fake time."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from maesh_mtls import MtlsSettings
from maesh_mtls.parent import ParentHalf
from maesh_mtls.proxy.renewal import LONGEST_FIRST_PAUSE_S, LONGEST_PAUSE_S, EnrolmentError, Renewal, Timing
from maesh_mtls.wire import Credentials, MeshShare

HOUR = 3600.0
OLD_TRUST, NEW_TRUST = "0" * 16, "1" * 16
START = datetime(2026, 11, 29, tzinfo=UTC).timestamp()


class Parent:
    name = "n1"
    settings = SimpleNamespace(endpoint="http://127.0.0.1:9000", controller_token="", root_ca_controller="")

    def __init__(self):
        self.handed, self.shown, self.families, self.state, self.facts = [], [], (), {}, {}
        self.is_controller = None

    def hand(self, name, payload):
        assert name == "mtls"
        self.handed.append(msgspec.json.decode(payload, type=Credentials))

    def protect(self, is_controller):
        self.is_controller = is_controller

    def publish_addresses(self, table):
        raise AssertionError(table)

    def use_certificate(self, credentials):
        self.shown.append(credentials)

    def report(self, families, state):
        self.families, self.state = families, dict(state)

    def tell_controller(self, facts):
        self.facts = dict(facts)

    def read_metric(self, name):
        return next(dict(family.samples) for family in self.families if family.name == name)


class Node:
    """A node in fake time, with a controller that can be away: `run` until a moment."""

    def __init__(self, *, draw=None):
        self.now, self.parent, self.problem = START, Parent(), None
        self.attempts, self.serial, self.lifetime_s, self.controller_offset_s = [], 0, 24 * HOUR, 0.0
        self.trust, self.authority, self.shared = OLD_TRUST, "aa" * 20, []
        draw = draw or (lambda low, high: (low + high) / 2)
        self.renewal = Renewal(self.parent, self.enrol, Timing(lambda: self.now, self.sleep, draw))

    async def enrol(self):
        self.attempts.append(self.now)
        if self.problem is not None:
            raise EnrolmentError(*self.problem)
        self.serial += 1
        signed_at = self.now + self.controller_offset_s
        return Credentials(
            key="k",
            chain="c",
            bundle="b",
            identity="spiffe://cluster.local/maesh/node/n1",
            serial=f"{self.serial:02X}",
            not_before=signed_at - 300,
            not_after=signed_at + self.lifetime_s,
            issued=self.now,
            trust=self.trust,
            authority=self.authority,
        )

    def share(self, hours, trust, authority="aa" * 20):
        """Let the controller share other values after some time."""
        self.shared.append((START + hours * HOUR, MeshShare(trust=trust, authority=authority, within_s=10.0)))

    async def sleep(self, seconds):
        assert seconds > 0
        if self.shared and self.shared[0][0] <= self.now + seconds and self.shared[0][0] >= self.now:
            self.now, share = self.shared.pop(0)
            self.renewal.receive_shared(msgspec.json.encode(share))
            await asyncio.Event().wait()
        self.now += seconds
        if self.now >= self.until:
            raise asyncio.CancelledError

    async def run(self, hours):
        """Run from the current moment; a service that is started again begins with an attempt."""
        self.until = self.now + hours * HOUR
        with pytest.raises(asyncio.CancelledError):
            await self.renewal.run()


async def test_a_certificate_is_renewed_at_half_of_its_life():
    node = Node()
    await node.run(50)
    half = (24 * HOUR + 300) / 2 - 300
    assert [at - START for at in node.attempts] == [half * index for index in range(5)]
    assert [each.serial for each in node.parent.handed] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize(("draw", "part"), [(min, 0.4), (max, 0.6)])
async def test_renewals_differ_by_a_tenth_of_the_life(draw, part):
    node = Node(draw=draw)
    await node.run(20)
    assert node.attempts[1] - START == pytest.approx((24 * HOUR + 300) * part - 300)


async def test_a_certificate_is_renewed_soon_if_others_are_trusted_now():
    node = Node()
    node.share(1, NEW_TRUST)
    node.trust = OLD_TRUST
    await node.run(1.001)
    node.trust = NEW_TRUST
    await node.run(1)
    assert node.attempts[1] - START == HOUR + 5, "at a random time of ten seconds"
    assert node.parent.facts["trust"] == NEW_TRUST


async def test_a_certificate_is_renewed_soon_if_another_authority_signs_now():
    node = Node()
    node.share(1, OLD_TRUST, "bb" * 20)
    await node.run(1.0001)
    assert node.attempts[1:] == []
    node.authority = "bb" * 20
    await node.run(12)
    assert node.attempts[1] - START < 1.01 * HOUR
    assert node.parent.facts["authority"] == "bb" * 20


async def test_a_certificate_is_not_renewed_if_nothing_differs():
    node = Node()
    node.share(1, OLD_TRUST)
    node.until = START + 11 * HOUR
    renewing = asyncio.create_task(node.renewal.run())
    for _ in range(20):
        await asyncio.sleep(0)
    renewing.cancel()
    assert (len(node.attempts), node.shared) == (1, [])


async def test_a_file_of_trusted_certificates_that_does_not_follow_is_read_again_after_longer_and_longer_pauses():
    node = Node(draw=max)
    node.renewal.receive_shared(msgspec.json.encode(MeshShare(trust=NEW_TRUST, authority="aa" * 20)))
    await node.run(3.5)
    pauses = [after - before for before, after in zip(node.attempts, node.attempts[1:], strict=False)]
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3840, 3840]


async def test_the_facts_of_the_certificate_are_reported():
    node = Node()
    await node.run(1)
    assert node.parent.facts == {
        "state": "valid",
        "starts": f"{START:.0f}",
        "ends": f"{START + 24 * HOUR:.0f}",
        "serial": "01",
        "trust": OLD_TRUST,
        "authority": "aa" * 20,
    }


async def test_the_state_is_reported():
    node = Node()
    await node.run(1)
    assert node.parent.state == {
        "certificate": "valid",
        "identity": "spiffe://cluster.local/maesh/node/n1",
        "serial": "01",
        "ends": "2026-11-30T00:00:00Z",
    }
    assert node.parent.read_metric("maesh_certificate_expiry_seconds") == {(): START + 24 * HOUR}
    assert node.parent.read_metric("maesh_certificate_renewals") == {(): 1}
    assert node.parent.read_metric("maesh_certificate_renewal_failures") == {}


async def test_failures_are_repeated_after_longer_and_longer_pauses():
    node = Node(draw=max)
    node.problem = ("connection", "the controller is away")
    await node.run(1)
    pauses = [after - before for before, after in zip(node.attempts, node.attempts[1:], strict=False)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert set(pauses[5:]) == {LONGEST_FIRST_PAUSE_S}
    assert node.parent.handed == []
    assert node.parent.state["certificate"] == "none"
    assert node.parent.read_metric("maesh_certificate_renewal_failures") == {("connection",): len(node.attempts)}


async def test_with_a_certificate_the_pauses_after_failures_grow_further():
    node = Node(draw=max)
    await node.run(14)
    node.problem = ("connection", "the controller is away")
    first = len(node.attempts)
    await node.run(1)
    pauses = [after - before for before, after in zip(node.attempts[first:], node.attempts[first + 1 :], strict=False)]
    assert pauses[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(pauses[9:]) == {LONGEST_PAUSE_S}


async def test_a_node_is_starting_until_its_first_certificate():
    node = Node()
    node.problem = ("connection", "the controller is away")
    await node.run(0.5)
    assert node.renewal.is_starting
    node.problem = None
    await node.run(1)
    assert not node.renewal.is_starting
    node.problem = ("connection", "the controller is away")
    await node.run(48)
    assert node.parent.state["certificate"] == "expired"
    assert not node.renewal.is_starting


async def test_pauses_are_random():
    drawn = []
    node = Node(draw=lambda low, high: drawn.append((low, high)) or high)
    node.problem = ("connection", "the controller is away")
    await node.run(0.01)
    assert drawn[:3] == [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]


async def test_a_node_that_starts_without_its_controller_gets_a_certificate_when_that_is_back(caplog):
    caplog.set_level(logging.INFO)
    node = Node()
    node.problem = ("connection", "the controller is away")
    await node.run(0.5)
    node.problem = None
    await node.run(1)
    assert len(node.parent.handed) == 1
    assert [record.levelname for record in caplog.records][-1] == "INFO"
    assert "cannot get one: the controller is away" in caplog.messages[0]


async def test_the_last_certificate_stays_in_use_while_the_controller_is_away_until_it_ends(caplog):
    node = Node()
    await node.run(11)
    node.problem = ("connection", "the controller is away")
    caplog.set_level(logging.INFO)
    await node.run(12)
    assert len(node.parent.handed) == 1
    assert node.parent.state["certificate"] == "overdue"
    assert node.parent.state["problem"] == "the controller is away"
    levels = {record.levelname for record in caplog.records}
    assert levels == {"WARNING"}
    assert "ends at 2026-11-30T00:00:00Z, and cannot be renewed" in caplog.messages[0]
    assert len(caplog.records) <= 12 * 6 + 1, "once in ten minutes"

    caplog.clear()
    await node.run(3)
    assert node.parent.state["certificate"] == "expired"
    assert caplog.records[-1].levelname == "ERROR"
    assert "has expired at 2026-11-30T00:00:00Z" in caplog.messages[-1]

    node.problem = None
    await node.run(1)
    assert node.parent.state["certificate"] == "valid"
    assert [each.serial for each in node.parent.handed] == ["01", "02"]


async def test_another_reason_is_logged_at_once(caplog):
    node = Node()
    node.problem = ("connection", "the controller is away")
    await node.run(0.001)
    node.problem = ("status-401", "the token is unknown")
    await node.run(0.001)
    assert sum("the token is unknown" in text for text in caplog.messages) == 1


async def test_a_clock_that_is_far_ahead_does_not_make_a_node_renew_without_pause():
    node = Node()
    node.controller_offset_s = -20 * HOUR
    await node.run(1)
    pauses = {after - before for before, after in zip(node.attempts, node.attempts[1:], strict=False)}
    assert pauses == {LONGEST_PAUSE_S}


async def test_an_unexpected_error_ends_the_service_so_that_the_core_starts_it_again():
    node = Node()

    async def raise_error():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        await Renewal(node.parent, raise_error).run()


def test_a_proxy_without_a_token_says_so():
    parent = Parent()
    assert ParentHalf(MtlsSettings()).maesh_node_services(parent) == []
    assert parent.state == {"certificate": "none, because the proxy has no setting mtls.token"}
    assert parent.facts == {"state": "none"}


def test_a_proxy_with_a_token_renews():
    (service,) = ParentHalf(MtlsSettings(token="/token")).maesh_node_services(Parent())
    assert service.name == "mtls"


async def test_a_proxy_answers_only_controllers_of_the_domain_of_its_certificate():
    parent, node = Parent(), Node()
    service: Any
    (service,) = ParentHalf(MtlsSettings(token="/token")).maesh_node_services(parent)
    names = {domain: (("URI", f"spiffe://{domain}/maesh/controller"),) for domain in ("cluster.local", "other.local")}
    ends = "Jan  1 00:00:00 2099 GMT"
    shown = {domain: {"subjectAltName": each, "notAfter": ends} for domain, each in names.items()}
    assert not any(map(parent.is_controller, shown.values())), "without a certificate it knows no domain"
    service._use(await node.enrol())
    assert parent.is_controller(shown["cluster.local"])
    assert not parent.is_controller(shown["other.local"])


def test_lifetimes_leave_room_for_the_pauses():
    assert timedelta(hours=1).total_seconds() * 0.4 - 300 > LONGEST_PAUSE_S
