"""The state beside the authority: revocations, and its JSON."""

import msgspec
import pytest
from maesh_mtls import LONGEST_LIFETIME_S
from maesh_mtls.controller.authority.state import (
    KEPT_S,
    MARGIN_S,
    REVOCATIONS_LIMIT,
    AuthorityState,
    Revocation,
    drop_ended,
    parse_state,
    render_state,
    revoke,
    undo_revocation,
)

from maesh_core.plugin import ConfigurationError


def test_a_node_is_revoked_until_that_is_undone():
    state = revoke(AuthorityState(), "a", "", 5.0)
    assert state.is_revoked("a")
    assert not state.is_revoked("b")
    with pytest.raises(ValueError, match="already"):
        revoke(state, "a", "", 6.0)
    assert undo_revocation(state, "a", "") == AuthorityState()
    with pytest.raises(ValueError, match="not revoked"):
        undo_revocation(state, "a", "0A")


def test_the_revocation_of_a_certificate_does_not_revoke_its_node_and_is_dropped_long_after_its_end():
    state = revoke(revoke(AuthorityState(), "a", "0A", 5.0), "a", "", 5.0)
    ends = 5.0 + LONGEST_LIFETIME_S + MARGIN_S + KEPT_S
    assert drop_ended(state, 5.0 + 2 * LONGEST_LIFETIME_S) is state, "the clock of the leader may be wrong"
    assert drop_ended(state, ends - 1) is state
    assert drop_ended(state, ends).revoked == (Revocation(node="a", at=5.0),)
    assert not undo_revocation(state, "a", "").is_revoked("a")


def test_revocations_are_limited():
    revoked = tuple(Revocation(node=f"n{number}") for number in range(REVOCATIONS_LIMIT))
    with pytest.raises(ValueError, match="1000 revocations"):
        revoke(AuthorityState(revoked=revoked), "a", "", 0.0)
    assert len(render_state(AuthorityState(revoked=revoked))) < 200 * 1024, "an annotation has 256 KiB"


def test_the_state_is_rendered_and_parsed():
    state = AuthorityState(phase="renew", since=5.0, longest_s=3600.0, revoked=(Revocation(node="a", serial="0A"),))
    assert parse_state(render_state(state)) == state
    assert parse_state("") == AuthorityState()
    assert render_state(AuthorityState()) == "{}"


@pytest.mark.parametrize("text", ["{", '{"phase": "other"}', "[]", '{"revoked": [{}]}'])
def test_a_state_that_no_controller_wrote_is_an_error(text):
    with pytest.raises(ConfigurationError):
        parse_state(text)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(text, type=AuthorityState)
