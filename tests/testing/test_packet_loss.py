"""The program that loses packets: what it computes is tested in networks (test_namespaces.py)."""

import pytest

from maesh_testing import packet_loss


@pytest.mark.parametrize(("share", "threshold"), [(0, 0), (0.25, 0x4000), (1, 0x10000)])
def test_the_share_is_a_number_below_which_packets_are_lost(share, threshold):
    program = packet_loss._build_program(share)
    assert len(program) == 7 * 8
    assert program[4 * 8 : 5 * 8] == b"\x35\x01\x01\x00" + threshold.to_bytes(4, "little")


def test_a_machine_whose_number_of_the_call_is_not_known_is_named(monkeypatch):
    monkeypatch.setattr(packet_loss, "_SYSCALLS", {})
    with pytest.raises(OSError, match=r"bpf\(2\) has no known number on"):
        packet_loss._load(b"")
