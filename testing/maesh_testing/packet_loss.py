"""Makes an interface lose a share of the packets that it sends, at random. Linux, as root, with `tc` of iproute2.

The kernel's own tool for this, netem, is missing in small kernels. The filter here is an eBPF program of seven
instructions, which every kernel with cls_bpf runs.
"""

import ctypes
import os
import struct
import subprocess
import tempfile
from pathlib import Path

_SYSCALLS = {"x86_64": 321, "aarch64": 280}
_BPF_PROG_LOAD, _BPF_OBJ_PIN, _BPF_PROG_TYPE_SCHED_CLS = 5, 6, 3
_ATTRIBUTE_BYTES = 128
_LIBC = ctypes.CDLL(None, use_errno=True)


def lose_packets(namespace: str, interface: str, share: float) -> None:
    """Lose this share of the packets that an interface sends. Raises OSError where the kernel cannot do that."""
    with tempfile.TemporaryDirectory(prefix="maesh-bpf-") as folder:
        _run("mount", "-t", "bpf", "bpf", folder)
        try:
            path = Path(folder, "loss")
            _pin(_load(_build_program(share)), path)
            tc = ("tc", "-n", namespace)
            _run(*tc, "qdisc", "replace", "dev", interface, "clsact")
            _run(*tc, "filter", "add", "dev", interface, "egress", "bpf", "direct-action", "object-pinned", str(path))
        finally:
            _run("umount", folder)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def _build_program(share: float) -> bytes:
    """Build the program: r0 = TC_ACT_SHOT if a random number of 16 bits is below the share, else TC_ACT_OK."""
    instructions = (
        (0x85, 0, 0, 0, 7),  # call get_prandom_u32
        (0x57, 0, 0, 0, 0xFFFF),  # r0 &= 0xffff
        (0xBF, 1, 0, 0, 0),  # r1 = r0
        (0xB7, 0, 0, 0, 0),  # r0 = 0
        (0x35, 1, 0, 1, int(share * 0x10000)),  # skip one if r1 >= share
        (0xB7, 0, 0, 0, 2),  # r0 = 2
        (0x95, 0, 0, 0, 0),  # exit
    )
    return b"".join(
        struct.pack("<BBhi", code, to | (of << 4), skip, value) for code, to, of, skip, value in instructions
    )


def _load(program: bytes) -> int:
    code, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(code), ctypes.addressof(licence)
    attributes = struct.pack("<IIQQ", _BPF_PROG_TYPE_SCHED_CLS, len(program) // 8, *addresses)
    return _call(_BPF_PROG_LOAD, attributes)


def _pin(program: int, path: Path) -> None:
    name = ctypes.create_string_buffer(os.fsencode(path))
    try:
        _call(_BPF_OBJ_PIN, struct.pack("<QI", ctypes.addressof(name), program))
    finally:
        os.close(program)


def _call(command: int, attributes: bytes) -> int:
    number = _SYSCALLS.get(os.uname().machine)
    if number is None:
        raise OSError(f"bpf(2) has no known number on {os.uname().machine}")
    given = ctypes.create_string_buffer(attributes, _ATTRIBUTE_BYTES)
    result = int(_LIBC.syscall(number, command, given, _ATTRIBUTE_BYTES))
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf(2)")
    return result
