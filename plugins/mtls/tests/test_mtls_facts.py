"""Facts of certificates: rendered by proxies, and read by the controller, which trusts none."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_mtls.controller.authority import ca
from maesh_mtls.controller.authority.stores import Stored
from maesh_mtls.controller.rotation.report import build_report
from maesh_mtls.controller.rotation.service import build_view
from maesh_mtls.facts import (
    LAST_TIME,
    STATES,
    CertificateFacts,
    check_facts,
    parse_facts,
    render_facts,
    render_moment,
    render_span,
)

from maesh_core.model.facts import is_fact
from maesh_core.plugin import NodeReport, TransportReport

from .certificates import make_credentials, make_signer

HOUR = 3600.0
NOW = datetime.now(UTC)
STORED = Stored(files=ca.make_authority(NOW), version="1")
TIMES = st.from_regex(r"[0-9]{1,12}", fullmatch=True) | st.just(str(LAST_TIME)) | st.just(str(LAST_TIME + 1))
"""Of an accepted pattern, and around the last one that can be shown."""
FACTS = st.fixed_dictionaries(
    {"state": st.sampled_from(sorted(STATES)), "starts": TIMES, "ends": TIMES},
    optional={
        "serial": st.from_regex(r"([0-9A-F]{2}){1,20}", fullmatch=True),
        "trust": st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
        "authority": st.from_regex(r"([0-9a-f]{2}){1,32}", fullmatch=True),
    },
)


def test_the_facts_of_credentials_can_be_read():
    credentials = make_credentials(make_signer(), "n1")
    facts = render_facts(credentials, "valid")
    assert all(is_fact(name, text) for name, text in facts.items())
    parsed = parse_facts(check_facts(facts))
    assert (parsed.state, parsed.serial, parsed.trust) == ("valid", credentials.serial, credentials.trust)
    assert parsed.authority == credentials.authority != ""
    assert abs(parsed.ends - credentials.not_after) < 1
    assert parsed.is_valid(parsed.starts)


def test_a_proxy_without_a_certificate_says_so():
    parsed = parse_facts(check_facts(render_facts(None, "none")))
    assert parsed == CertificateFacts()
    assert parsed.find_problem(0.0) == "the proxy has no certificate"


@pytest.mark.parametrize(
    "facts",
    [
        {"state": "fine"},
        {"ends": "1e9", "starts": "1"},
        {"ends": "-1", "starts": "1"},
        {"ends": "5"},
        {"ends": str(LAST_TIME + 1), "starts": "1"},
        {"ends": "5", "starts": str(LAST_TIME + 1)},
        {"serial": "0a"},
        {"trust": "x" * 16},
        {"authority": "a"},
    ],
)
def test_wrong_facts_are_refused(facts):
    with pytest.raises(ValueError, match="fact"):
        check_facts(facts)


@given(FACTS)
def test_every_fact_that_is_accepted_can_be_reported(facts):
    try:
        accepted = check_facts(facts)
    except ValueError:
        assert any(int(facts[name]) > LAST_TIME for name in ("starts", "ends"))
        return
    transport = TransportReport(facts=accepted)
    node = NodeReport(name="a", ip="10.0.0.1", revision="e.1", last_seen="", ready=True, transport=transport)
    now = NOW.timestamp()
    view = build_view([node], ("a",), now, is_complete=True)
    report = build_report(STORED, view, [node], now, place="a store", nodes={"a": None})
    assert len(msgspec.json.decode(msgspec.json.encode(report))["nodes"]) == 1


def test_unknown_facts_are_left_out():
    assert check_facts({"state": "valid", "mood": "fine"}) == {"state": "valid"}


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        (0.0, ""),
        (15 * HOUR, ""),
        (16 * HOUR, "the certificate ends in 8h and was not renewed"),
        (24 * HOUR, "the certificate has ended"),
    ],
)
def test_a_certificate_that_was_not_renewed_is_a_problem_long_before_it_ends(now, problem):
    assert CertificateFacts(state="valid", starts=0.0, ends=24 * HOUR).find_problem(now) == problem


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (90, "90s"), (7200, "2h"), (90_000, "25h"), (864_000, "10d")]
)
def test_time_spans_have_one_unit(seconds, text):
    assert render_span(seconds) == text


def test_moments_are_written_as_rfc_3339():
    assert render_moment(1_700_000_000.9) == "2023-11-14T22:13:20Z"
