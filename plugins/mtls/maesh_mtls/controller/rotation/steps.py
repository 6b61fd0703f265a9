"""Replaces one authority by another in phases, so that no two nodes with valid certificates ever refuse each other.

Takes the content of the store, and what proxies report; returns the next content, which the leader writes. Pure. In the
phase `spread` the new certificates are trusted everywhere, and the former authority signs; in `renew` the new one
signs, and all nodes get new certificates; then what is no longer needed stops being trusted. A phase ends when all
proxies report it, or when no certificate that it waits for can be valid any more.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from maesh_mtls import LONGEST_LIFETIME_S
from maesh_mtls.controller.authority.ca import SigningAuthority, read_authority
from maesh_mtls.controller.authority.effective import adopt, get_key_id, is_adopted, read_effective
from maesh_mtls.controller.authority.state import (
    MARGIN_S,
    RENEW,
    SETTLED,
    SPREAD,
    AuthorityState,
    parse_state,
)
from maesh_mtls.controller.authority.stores import (
    BUNDLE,
    CERTIFICATE,
    KEY,
    SIGNER_CERTIFICATE,
    SIGNER_KEY,
    TRUSTED,
    Stored,
)
from maesh_mtls.trust import has_all, hash_trust, join_bundles, split_bundle


class ReportedNode(NamedTuple):
    """What one proxy reports: its node, the certificates it trusts, and the issuer of its certificate.

    Without a valid certificate it has no connections, so nothing waits for it.
    """

    node: str
    trust: str
    authority: str
    has_certificate: bool = True


class MeshView(NamedTuple):
    """The nodes that take part, and what active proxies report; `is_complete`: all controllers have answered."""

    nodes: Collection[str]
    proxies: Sequence[ReportedNode]
    is_complete: bool


class Change(NamedTuple):
    """The next content of the store, and what happens, for the log."""

    files: Mapping[str, bytes | None]
    state: AuthorityState
    text: str


def step(stored: Stored, view: MeshView, now: float, *, least_s: float) -> Change | None:
    """Return the next step; None while there is nothing to do. Raises ConfigurationError.

    A phase lasts at least `least_s`, so that signatures that are under way arrive before it ends.
    """
    state = parse_state(stored.rotation)
    moment = datetime.fromtimestamp(now, UTC)
    wanted = read_authority(stored, moment)
    if not is_adopted(stored):
        return Change(adopt(stored, moment), state, "the authority is in use")
    effective = read_effective(stored, moment)
    if not has_all(effective.bundle, wanted.bundle):
        return _start_spreading(state, effective, wanted, now)
    if state.phase != SPREAD and not is_same(wanted, effective):
        return _start_spreading(state, effective, wanted, now)
    if state.phase == SETTLED:
        return _drop_untrusted(state, effective, wanted, now)
    if now - state.since < least_s or (find_waiting(stored, view, now) and not _is_over(state, now)):
        return None
    return _sign_by(stored, state, effective, wanted, now) if state.phase == SPREAD else _settle(state, wanted)


def find_waiting(stored: Stored, view: MeshView, now: float) -> list[str]:
    """List the nodes that the phase waits for; `controllers` is among them if one has not answered."""
    state, moment = parse_state(stored.rotation), datetime.fromtimestamp(now, UTC)
    effective = read_effective(stored, moment)
    if state.phase == SPREAD and is_same(read_authority(stored, moment), effective):
        return []  # the signer stays, so there is nothing that others would have to trust
    if state.phase == SPREAD:
        trust = hash_trust(effective.bundle)
        return _list_waiting(view, lambda proxy: proxy.trust == trust)
    authority = get_key_id(effective)
    return _list_waiting(view, lambda proxy: proxy.authority == authority) if state.phase == RENEW else []


def _list_waiting(view: MeshView, is_done: Callable[[ReportedNode], bool]) -> list[str]:
    reported = {proxy.node for proxy in view.proxies}
    undone = {proxy.node for proxy in view.proxies if proxy.has_certificate and not is_done(proxy)}
    waiting = sorted(node for node in view.nodes if node not in reported or node in undone)
    return waiting if view.is_complete else [*waiting, "controllers"]


def is_same(one: SigningAuthority, other: SigningAuthority) -> bool:
    """Whether two authorities have the same key and certificate."""
    return one.certificate == other.certificate and one.intermediates == other.intermediates


def _is_over(state: AuthorityState, now: float) -> bool:
    return now >= state.until or state.skipped == state.phase


def _start_spreading(
    state: AuthorityState, effective: SigningAuthority, wanted: SigningAuthority, now: float
) -> Change:
    bundle = join_bundles([effective.bundle, wanted.bundle])
    text = "another authority is wanted: nodes learn to trust it, while the former one signs"
    return Change({BUNDLE: bundle.encode()}, _enter(state, SPREAD, now), text)


def _drop_untrusted(
    state: AuthorityState, effective: SigningAuthority, wanted: SigningAuthority, now: float
) -> Change | None:
    """Begin to drop certificates that are no longer wanted. Who signed by them, and for how long, is not known."""
    if split_bundle(effective.bundle) == split_bundle(wanted.bundle):
        return None
    until = max(state.others_until, now + LONGEST_LIFETIME_S + MARGIN_S)
    changed = msgspec.structs.replace(_enter(state, RENEW, now), others_until=until)
    return Change({}, changed, "a trusted certificate is no longer wanted: nodes get certificates of the authority")


def _sign_by(
    stored: Stored, state: AuthorityState, effective: SigningAuthority, wanted: SigningAuthority, now: float
) -> Change:
    entered = _enter(state, RENEW, now)
    if not is_same(effective, wanted):
        until = max(state.others_until, now + state.longest_s + MARGIN_S)
        entered = msgspec.structs.replace(entered, others_until=until, longest_s=0.0)
    return Change(_copy_signer(stored), entered, "the new authority signs: nodes get new certificates")


def _settle(state: AuthorityState, wanted: SigningAuthority) -> Change:
    settled = msgspec.structs.replace(state, phase=SETTLED, since=0.0, others_until=0.0, skipped="")
    return Change({BUNDLE: join_bundles([wanted.bundle]).encode()}, settled, "only the new authority is trusted now")


def _enter(state: AuthorityState, phase: str, now: float) -> AuthorityState:
    changed: AuthorityState = msgspec.structs.replace(state, phase=phase, since=now, skipped="")
    return changed


def _copy_signer(stored: Stored) -> dict[str, bytes | None]:
    return {SIGNER_CERTIFICATE: stored.files[CERTIFICATE], SIGNER_KEY: stored.files[KEY]}


# --- what a user may do ----------------------------------------------------------------------------------------------


class NotNowError(Exception):
    """The action is not possible in this phase. The text says why, and what to do."""


def start(stored: Stored, made: Mapping[str, bytes], now: float) -> Change:
    """Want a new authority, with these files. Raises NotNowError and ConfigurationError."""
    state, moment = parse_state(stored.rotation), datetime.fromtimestamp(now, UTC)
    wanted = read_authority(stored, moment, can_have_ended=True)
    if state.phase != SETTLED or (is_adopted(stored) and not is_same(wanted, read_effective(stored, moment))):
        raise NotNowError("a rotation is under way; `maesh mtls status` shows what it waits for")
    if wanted.intermediates or TRUSTED in stored.files:
        raise NotNowError("this authority was not made by Maesh: replace it where it comes from, and it is rotated")
    files: dict[str, bytes | None] = {**made}
    if not is_adopted(stored):
        files |= adopt(stored, moment)
    return Change(files, state, "a rotation was asked for")


def abort(stored: Stored, now: float) -> Change:
    """Want the authority that signs, so that the new one is dropped. Raises NotNowError and ConfigurationError."""
    state, moment = parse_state(stored.rotation), datetime.fromtimestamp(now, UTC)
    if not is_adopted(stored) or state.phase == SETTLED:
        raise NotNowError("no rotation is under way")
    effective = read_effective(stored, moment)
    if state.phase == RENEW:
        raise NotNowError("the new authority signs already, and the former key is gone: wait, and rotate again")
    trusted = stored.files[BUNDLE] if effective.intermediates else None
    files = {CERTIFICATE: stored.files[SIGNER_CERTIFICATE], KEY: stored.files[SIGNER_KEY], TRUSTED: trusted}
    return Change(files, state, "the rotation was aborted")


def proceed(stored: Stored) -> Change:
    """End the wait of the current phase. Raises NotNowError."""
    state = parse_state(stored.rotation)
    if state.phase == SETTLED:
        raise NotNowError("no rotation is under way")
    return Change(
        {}, msgspec.structs.replace(state, skipped=state.phase), f"the wait of the phase {state.phase} was ended"
    )
