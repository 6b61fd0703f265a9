"""The three lines that precede the bytes of a connection between two nodes. Pure functions.

    receiver    maesh-relay/1 CHALLENGE
    sender      PROOF {"node": "a", "challenge": CHALLENGE, "delivery": {...}}
    receiver    PROOF {"status": 200, "reason": ""}

Each proof is an HMAC (RFC 2104, SHA-256) of the other side's fresh challenge and of the text beside it, so that nothing
that was recorded proves anything again. The receiver's node is part of the sender's proof: what was proven to one node
is worth nothing at another. The bytes that follow are not protected. Every line of a peer is untrusted; `parse_`
functions raise ValueError and nothing else.
"""

import hmac
import secrets
from typing import Annotated, Final

import msgspec

from maesh_core.plugin import Delivery

LINE_LIMIT_BYTES: Final = 4096
"""The longest line of a peer: a delivery has an address, the key of a service and a few short fields."""
SECRET_BYTES: Final = 32
"""The shortest secret: as long as the result of SHA-256 (RFC 2104 section 3)."""
_CHALLENGE_BYTES: Final = 16
_GREETING: Final = "maesh-relay/1 "
_PROOF_CHARACTERS: Final = 64
_ASKS: Final = b"asks"
_ANSWERS: Final = b"answers"

_Challenge = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a sender asks, with its own challenge."""

    node: str
    challenge: _Challenge
    delivery: Delivery


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the receiver answers: 200, or the status and reason of a refusal."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


def make_challenge() -> str:
    """Make a challenge that nobody has seen before."""
    return secrets.token_hex(_CHALLENGE_BYTES)


def render_greeting(challenge: str) -> bytes:
    """Write the receiver's first line."""
    return f"{_GREETING}{challenge}\n".encode()


def parse_greeting(line: bytes) -> str:
    """Read the receiver's challenge."""
    text = line.decode("ascii")
    if not text.startswith(_GREETING):
        raise ValueError("not a greeting")
    return msgspec.convert(text.removeprefix(_GREETING), _Challenge)


def render_question(question: Question, *, secret: bytes, challenge: str, receiver: str) -> bytes:
    """Write the sender's line, for the challenge of a receiver on this node."""
    text = msgspec.json.encode(question)
    return _render(_prove(secret, _ASKS, challenge, receiver, text), text)


def parse_question(line: bytes, *, secret: bytes, challenge: str, receiver: str) -> Question:
    """Read what a sender asks of this node; the text is decoded only if its proof is right."""
    proof, text = _split(line)
    if not hmac.compare_digest(proof, _prove(secret, _ASKS, challenge, receiver, text)):
        raise ValueError("the proof is wrong")
    return msgspec.json.decode(text, type=Question)


def render_answer(answer: Answer, *, secret: bytes, challenge: str) -> bytes:
    """Write the receiver's answer, for the challenge of the sender."""
    text = msgspec.json.encode(answer)
    return _render(_prove(secret, _ANSWERS, challenge, "", text), text)


def parse_answer(line: bytes, *, secret: bytes, challenge: str) -> Answer:
    """Read the receiver's answer."""
    proof, text = _split(line)
    if not hmac.compare_digest(proof, _prove(secret, _ANSWERS, challenge, "", text)):
        raise ValueError("the proof is wrong")
    return msgspec.json.decode(text, type=Answer)


def _prove(secret: bytes, role: bytes, challenge: str, receiver: str, text: bytes) -> bytes:
    message = b"\0".join((role, challenge.encode(), receiver.encode(), text))
    return hmac.digest(secret, message, "sha256").hex().encode()


def _render(proof: bytes, text: bytes) -> bytes:
    return proof + b" " + text + b"\n"


def _split(line: bytes) -> tuple[bytes, bytes]:
    proof, _, text = line.partition(b" ")
    if len(proof) != _PROOF_CHARACTERS:
        raise ValueError("there is no proof")
    return proof, text
