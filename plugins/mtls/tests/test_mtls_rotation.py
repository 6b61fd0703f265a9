"""The phases of a rotation, one by one, and in any order with crashes, late answers and several leaders."""

from datetime import UTC, datetime

import msgspec
import pytest
from maesh_mtls.controller.authority.ca import make_authority
from maesh_mtls.controller.authority.effective import get_key_id, read_effective
from maesh_mtls.controller.authority.state import RENEW, SETTLED, SPREAD, parse_state, render_state
from maesh_mtls.controller.authority.stores import Stored
from maesh_mtls.controller.rotation.steps import (
    MeshView,
    NotNowError,
    ReportedNode,
    abort,
    find_waiting,
    proceed,
    start,
    step,
)
from maesh_mtls.trust import hash_trust, split_bundle

from maesh_core.plugin import ConfigurationError

from .certificates import encode

NOW = 1_800_000_000.0
LEAST_S = 60.0
NOBODY = MeshView((), (), True)


def at(now):
    return datetime.fromtimestamp(now, UTC)


def make_pair(now=NOW):
    return make_authority(at(now))


def apply(stored, change):
    """Write a change as a store does."""
    files = {**stored.files, **change.files}
    kept = {name: content for name, content in files.items() if content is not None}
    return Stored(files=kept, rotation=render_state(change.state), version=f"{stored.version}+")


def make_store(*, adopted=True):
    stored = Stored(files=make_pair(), version="1")
    return run(stored, NOBODY, NOW) if adopted else stored


def run(stored, view, now):
    """Do one step that must be possible."""
    change = step(stored, view, now, least_s=LEAST_S)
    assert change is not None
    return apply(stored, change)


def see(stored, *names, trust=None, authority=None, is_complete=True):
    effective = read_effective(stored, at(NOW))
    trust = trust or hash_trust(effective.bundle)
    proxies = [ReportedNode(name, trust, authority or get_key_id(effective)) for name in names]
    return MeshView(names, proxies, is_complete)


def name_of(stored):
    effective = read_effective(stored, at(NOW))
    return effective.certificate, effective.bundle


def get_phase(stored):
    return parse_state(stored.rotation).phase


def test_a_rotation_passes_its_phases_as_proxies_report_them():
    stored = make_store()
    former = read_effective(stored, at(NOW))
    stored = apply(stored, start(stored, make_pair(), NOW))
    assert read_effective(stored, at(NOW)).certificate == former.certificate, "nobody trusts the new one yet"
    stored = run(stored, see(stored, "a"), NOW)
    assert get_phase(stored) == SPREAD
    both = read_effective(stored, at(NOW))
    assert both.certificate == former.certificate
    assert len(split_bundle(both.bundle)) == 2

    late = NOW + LEAST_S
    unaware = see(stored, "a", "b", trust=hash_trust(former.bundle))
    assert find_waiting(stored, unaware, late) == ["a", "b"]
    assert step(stored, unaware, late, least_s=LEAST_S) is None
    assert step(stored, see(stored, "a"), late - 1, least_s=LEAST_S) is None, "answers may be under way"
    stored = run(stored, see(stored, "a", "b"), late)
    assert get_phase(stored) == RENEW
    signing = read_effective(stored, at(NOW))
    assert signing.certificate != former.certificate
    assert len(split_bundle(signing.bundle)) == 2

    later = late + LEAST_S
    assert step(stored, see(stored, "a", authority=get_key_id(former)), later, least_s=LEAST_S) is None
    stored = run(stored, see(stored, "a", "b"), later)
    assert get_phase(stored) == SETTLED
    assert read_effective(stored, at(NOW)).bundle == encode(signing.certificate)
    assert step(stored, see(stored, "a"), later + 1, least_s=LEAST_S) is None


def test_a_phase_waits_for_nodes_that_do_not_report_until_no_certificate_can_be_valid():
    stored = make_store()
    state = msgspec.structs.replace(parse_state(stored.rotation), longest_s=3600.0)
    stored = msgspec.structs.replace(stored, rotation=render_state(state))
    stored = run(apply(stored, start(stored, make_pair(), NOW)), NOBODY, NOW)
    silent = MeshView(("a",), (), True)
    ends = parse_state(stored.rotation).until
    assert ends == NOW + 3600 + 900
    assert find_waiting(stored, silent, ends - 1) == ["a"]
    assert step(stored, silent, ends - 1, least_s=LEAST_S) is None
    stored = run(stored, silent, ends)
    assert get_phase(stored) == RENEW
    until = parse_state(stored.rotation).until
    assert until == ends + 3600 + 900
    assert step(stored, silent, until - 1, least_s=LEAST_S) is None
    assert get_phase(run(stored, silent, until)) == SETTLED


def test_a_phase_waits_for_controllers_that_do_not_answer():
    stored = make_store()
    stored = run(apply(stored, start(stored, make_pair(), NOW)), NOBODY, NOW)
    partial = see(stored, "a", is_complete=False)
    assert find_waiting(stored, partial, NOW) == ["controllers"]
    stored = msgspec.structs.replace(
        stored, rotation=render_state(msgspec.structs.replace(parse_state(stored.rotation), longest_s=3600.0))
    )
    assert step(stored, partial, NOW + LEAST_S, least_s=LEAST_S) is None


def test_a_user_can_end_the_wait_of_one_phase():
    stored = make_store()
    state = msgspec.structs.replace(parse_state(stored.rotation), longest_s=3600.0)
    stored = msgspec.structs.replace(stored, rotation=render_state(state))
    with pytest.raises(NotNowError):
        proceed(stored)
    stored = run(apply(stored, start(stored, make_pair(), NOW)), NOBODY, NOW)
    silent = MeshView(("a",), (), True)
    stored = run(apply(stored, proceed(stored)), silent, NOW + LEAST_S)
    assert get_phase(stored) == RENEW
    assert step(stored, silent, NOW + 3 * LEAST_S, least_s=LEAST_S) is None, "the next phase waits again"


def test_a_second_rotation_is_refused_while_one_is_under_way():
    stored = make_store()
    stored = apply(stored, start(stored, make_pair(), NOW))
    with pytest.raises(NotNowError, match="under way"):
        start(stored, make_pair(), NOW)
    with pytest.raises(NotNowError, match="under way"):
        start(run(stored, NOBODY, NOW), make_pair(), NOW)


def test_an_aborted_rotation_ends_with_the_former_authority():
    stored = make_store()
    former = read_effective(stored, at(NOW))
    stored = run(apply(stored, start(stored, make_pair(), NOW)), NOBODY, NOW)
    stored = apply(stored, abort(stored, NOW))
    silent = see(stored, "a", trust="0" * 16)
    stored = run(stored, silent, NOW + LEAST_S)
    stored = run(stored, silent, NOW + 2 * LEAST_S)
    assert get_phase(stored) == SETTLED
    assert name_of(stored) == (former.certificate, former.bundle)


def test_a_rotation_whose_new_authority_signs_cannot_be_aborted():
    stored = make_store()
    with pytest.raises(NotNowError, match="no rotation"):
        abort(stored, NOW)
    stored = run(apply(stored, start(stored, make_pair(), NOW)), NOBODY, NOW)
    stored = run(stored, NOBODY, NOW + LEAST_S)
    with pytest.raises(NotNowError, match="signs already"):
        abort(stored, NOW)


def test_an_authority_that_was_replaced_by_hand_is_rotated():
    stored = make_store()
    former = read_effective(stored, at(NOW))
    by_hand = msgspec.structs.replace(stored, files={**stored.files, **make_pair()})
    assert name_of(by_hand) == (former.certificate, former.bundle)
    assert get_phase(run(by_hand, NOBODY, NOW)) == SPREAD


def test_files_that_do_not_belong_together_change_nothing():
    stored = make_store()
    by_hand = msgspec.structs.replace(stored, files={**stored.files, "tls.key": make_pair()["tls.key"]})
    with pytest.raises(ConfigurationError, match="another key"):
        step(by_hand, NOBODY, NOW, least_s=LEAST_S)
    assert name_of(by_hand) == name_of(stored)


def test_a_certificate_that_is_added_to_or_removed_from_the_trusted_ones_is_so_everywhere():
    stored = make_store()
    own = stored.files["tls.crt"]
    other = make_pair()["tls.crt"]
    stored = msgspec.structs.replace(stored, files={**stored.files, "ca.crt": own + other})
    for number in range(3):
        stored = run(stored, see(stored, "a"), NOW + number * LEAST_S)
    assert get_phase(stored) == SETTLED
    assert len(split_bundle(read_effective(stored, at(NOW)).bundle)) == 2
    stored = msgspec.structs.replace(stored, files={**stored.files, "ca.crt": own})
    stored = run(stored, see(stored, "a"), NOW)
    assert get_phase(stored) == RENEW
    stored = run(stored, see(stored, "a"), NOW + LEAST_S)
    assert len(split_bundle(read_effective(stored, at(NOW)).bundle)) == 1


def test_an_authority_that_has_ended_can_be_replaced():
    stored = Stored(files=make_pair(NOW - 4000 * 86400))
    stored = apply(stored, start(stored, make_pair(), NOW))
    assert get_phase(run(stored, NOBODY, NOW)) == SPREAD


def test_an_authority_of_others_is_not_replaced_by_one_of_maesh():
    made = make_pair()
    stored = Stored(files={**made, "ca.crt": made["tls.crt"]})
    with pytest.raises(NotNowError, match="not made by Maesh"):
        start(stored, make_pair(), NOW)
