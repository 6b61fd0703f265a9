"""docs/tunnel.md says what the engine does: every limit, metric and reason, with tests that exist."""

import re
from pathlib import Path

from maesh_core.proxy.tunnel import limits
from maesh_core.proxy.tunnel.control_frames import ANNOUNCEMENT
from maesh_core.proxy.tunnel.counters import INCOMING, OUTGOING, TunnelCounters

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "tunnel.md").read_text()
SOURCES = {path.name: path.read_text() for path in (ROOT / "maesh_core" / "proxy" / "tunnel").glob("*.py")}
FOLDERS = [ROOT / "tests" / "proxy" / folder for folder in ("tunnel", "http", "http/clients", "tcp", "transport")]


def test_the_tests_of_the_page_exist():
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", PAGE)
    assert len(named) > 40
    found = {
        (path.name, name)
        for folder in FOLDERS
        for path in folder.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    assert set(named) - found == set()


def test_the_page_has_every_metric_with_its_labels():
    rows = dict(re.findall(r"^\| `(maesh_\w+)` \| ([^|]*) \|", PAGE, re.MULTILINE))
    families = {each.name: each.labels for each in TunnelCounters().collect_metrics()}
    assert {name: tuple(re.findall(r"`(\w+)`", text.partition(":")[0])) for name, text in rows.items()} == families


def test_the_page_has_every_reason_of_a_failure():
    section = PAGE.partition("The reasons of failures:")[2]
    described = {
        name
        for cell in re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", cell)
    }
    source = "\n".join(SOURCES.values())
    used = set(re.findall(r'(?:lose|drop|PeerRefusedError|_drop)\("([a-z ]+)"\)', source))
    used |= set(re.findall(r'self\.lose, "([a-z]+)"', source))
    used |= set(re.findall(r'decrypted_to, "([a-z]+)"', source))
    used |= {"silence", "aborted", "rejected", "frames", "no certificate", "limit", "handshake", "protocol"}
    assert described == used


def test_the_page_has_the_numbers_of_the_limits():
    for limit in (
        limits.STREAM_WINDOW_BYTES,
        limits.FRAME_LIMIT_BYTES,
        limits.HEADER_LIST_BYTES,
        limits.STREAM_LIMIT,
        limits.OUTPUT_LIMIT_BYTES,
        limits.BARREN_BYTES,
        limits.ROUND_BYTES,
        limits.RESET_LIMIT,
    ):
        assert f"{limit:,}" in PAGE, limit
    for number, unit in (
        (limits.HANDSHAKE_LIMIT_S, "s for a handshake"),
        (limits.SILENCE_LIMIT_S, "s while streams are open"),
        (limits.PONG_LIMIT_S, "s more"),
        (limits.ACK_LIMIT_S, "s |"),
        (limits.REST_LIMIT_S, "s |"),
        (limits.IDLE_LIMIT_S / 60, "minutes"),
        (limits.RESET_REFILL_PER_S, "per second"),
        (limits.HANDSHAKES_PER_ADDRESS, "unfinished handshakes"),
        (limits.HANDSHAKES_LIMIT, "of all"),
        (limits.TUNNELS_PER_NODE, "tunnels of a node"),
        (limits.CONNECTIONS_PER_PEER, "tunnels from a worker"),
        (limits.TURN_FRAMES, "frames of a tunnel in a turn"),
    ):
        assert f"{number:.0f} {unit}" in PAGE, unit
    assert limits.SHARE_OF_CONNECTIONS == 4
    assert limits.HANDSHAKE_SHARE == 0.2


def test_the_page_has_the_settings_that_are_announced():
    settings = re.search(r"SETTINGS first: ([^;]*);", PAGE)
    assert settings is not None
    numbers = [int(each) for each in re.findall(r"\d+", settings[1])]
    payload = ANNOUNCEMENT[9 : 9 + int.from_bytes(ANNOUNCEMENT[:3], "big")]
    announced = [int.from_bytes(payload[at + 2 : at + 6], "big") for at in range(0, len(payload), 6)]
    assert sorted(numbers) == sorted(announced)


def test_counts_are_labelled_with_the_role():
    counters = TunnelCounters()
    counters.count_failure(OUTGOING, "connect")
    counters.count_failure(OUTGOING, "connect")
    counters.count_handshake(INCOMING, is_resumed=True)
    counters.count_refusal(INCOMING, 403)
    families = {each.name: dict(each.samples) for each in counters.collect_metrics()}
    assert families["maesh_tunnel_failures"] == {("outgoing", "connect"): 2}
    assert families["maesh_tunnel_handshakes"] == {("incoming", "resumed"): 1}
    assert families["maesh_tunnel_refusals"] == {("incoming", "403"): 1}
