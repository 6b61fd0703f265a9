"""Reads the trace context of a request, and writes that of an attempt, in the formats that the client used.

Formats: `traceparent` (W3C Trace Context), `b3` (B3 single) and `X-B3-...` (B3 multi). `tracestate` and `baggage` are
forwarded as they are, except that a `tracestate` without a valid `traceparent` belongs to no trace. Identifiers are
lower-case hexadecimal digits, as they were received.
"""

import re
from typing import Final

from maesh_core.plugin import Headers, ReadableHeaders

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
B3: Final = b"b3"
B3_TRACE_ID: Final = b"x-b3-traceid"
B3_SPAN_ID: Final = b"x-b3-spanid"
B3_PARENT_ID: Final = b"x-b3-parentspanid"
B3_SAMPLED: Final = b"x-b3-sampled"
B3_FLAGS: Final = b"x-b3-flags"

W3C_FORMAT: Final = 1
B3_SINGLE_FORMAT: Final = 2
B3_MULTI_FORMAT: Final = 4

_match_traceparent: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
).fullmatch
_match_b3: Final = re.compile(
    rb"(?!0+-)([0-9a-f]{32}|[0-9a-f]{16})-(?!0{16})([0-9a-f]{16})(?:-([01d]|true|false)(?:-[0-9a-f]{16})?)?",
    re.IGNORECASE,
).fullmatch
_is_b3_trace_id: Final = re.compile(rb"(?!0+$)(?:[0-9a-f]{32}|[0-9a-f]{16})", re.IGNORECASE).fullmatch
_is_b3_span_id: Final = re.compile(rb"(?!0+$)[0-9a-f]{16}", re.IGNORECASE).fullmatch
_DECISIONS: Final = {b"1": 1, b"true": 1, b"d": 1, b"0": 0, b"false": 0}

UNDECIDED: Final = -1
"""The client named its trace, and leaves it to the mesh whether to sample (B3 calls it deferred)."""


class TraceContext:
    """The trace that a request belongs to.

    Without a `trace_id`, the client decided only whether to sample. `decision` is 1, 0 or UNDECIDED. `formats` are the
    formats in which the context is sent on, as bits.
    """

    def __init__(
        self,
        trace_id: bytes,
        parent_id: bytes,
        decision: int,
        formats: int,
        *,
        flags: int = 0,
        is_debug: bool = False,
        state: bytes = b"",
    ) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.decision = decision
        self.formats = formats
        self.flags = flags
        self.is_debug = is_debug
        self.state = state

    def __repr__(self) -> str:
        return f"<TraceContext {self.trace_id!r} parent={self.parent_id!r} decision={self.decision}>"


def read_context(headers: ReadableHeaders) -> TraceContext | None:
    """Read a request's trace context; None if it has none that is valid."""
    traceparent = headers.get(TRACEPARENT)
    single = headers.get(B3)
    formats = find_b3_formats(headers, single)
    if traceparent is not None:
        context = _parse_traceparent(traceparent, headers)
        formats |= W3C_FORMAT
        if context is not None:
            context.formats = formats
            return context
    if single is not None and (context := parse_b3(single)) is not None:
        context.formats = formats
        return context
    return _read_b3_multi(headers, formats) if formats & B3_MULTI_FORMAT else None


def find_b3_formats(headers: ReadableHeaders, single: bytes | None) -> int:
    """Return which formats of B3 a request has."""
    formats = 0 if single is None else B3_SINGLE_FORMAT
    if headers.get(B3_TRACE_ID) is not None or headers.get(B3_SAMPLED) is not None or headers.get(B3_FLAGS) is not None:
        formats |= B3_MULTI_FORMAT
    return formats


def _parse_traceparent(text: bytes, headers: ReadableHeaders) -> TraceContext | None:
    """Parse it (W3C Trace Context section 3.2); one that is repeated is invalid."""
    match = _match_traceparent(text)
    if match is None or len(headers.get_all(TRACEPARENT)) > 1:
        return None
    version, trace_id, parent_id, flag_text, rest = match.groups()
    if rest is not None and version == b"00":
        return None
    flags = int(flag_text, 16)
    state = b",".join(headers.get_all(TRACESTATE))
    return TraceContext(trace_id, parent_id, flags & 1, W3C_FORMAT, flags=flags & 2, state=state)


def parse_b3(text: bytes) -> TraceContext | None:
    """Parse a `b3` field: identifiers with or without a decision, or a decision alone."""
    alone = _DECISIONS.get(text.lower())
    if alone is not None:
        return TraceContext(b"", b"", alone, B3_SINGLE_FORMAT, is_debug=text == b"d")
    match = _match_b3(text)
    if match is None:
        return None
    trace_id, parent_id, word = match.groups()
    decision = UNDECIDED if word is None else _DECISIONS[word.lower()]
    is_debug = word is not None and word.lower() == b"d"
    return TraceContext(trace_id.lower(), parent_id.lower(), decision, B3_SINGLE_FORMAT, is_debug=is_debug)


def _read_b3_multi(headers: ReadableHeaders, formats: int) -> TraceContext | None:
    is_debug = headers.get(B3_FLAGS) == b"1"
    word = headers.get(B3_SAMPLED)
    decision = 1 if is_debug else _DECISIONS.get(word.lower(), UNDECIDED) if word is not None else UNDECIDED
    trace_id, parent_id = headers.get(B3_TRACE_ID), headers.get(B3_SPAN_ID)
    if trace_id is None or parent_id is None or not _is_b3_trace_id(trace_id) or not _is_b3_span_id(parent_id):
        return None if decision == UNDECIDED else TraceContext(b"", b"", decision, formats, is_debug=is_debug)
    return TraceContext(trace_id.lower(), parent_id.lower(), decision, formats, is_debug=is_debug)


def write_context(headers: Headers, context: TraceContext, span_id: bytes, parent_id: bytes) -> None:
    """Write the context of an attempt that is sampled; `parent_id` is the span of the request itself."""
    if context.formats & W3C_FORMAT:
        if not context.state:
            headers.remove(TRACESTATE)  # before another field is added, because this searches those that were added
        headers.set(TRACEPARENT, render_traceparent(context.trace_id, span_id, context.flags | 1))
    if context.formats & B3_SINGLE_FORMAT:
        word = b"d" if context.is_debug else b"1"
        headers.set(B3, b"%b-%b-%b-%b" % (context.trace_id, span_id, word, parent_id))
    if context.formats & B3_MULTI_FORMAT:
        headers.set(B3_TRACE_ID, context.trace_id)
        headers.set(B3_SPAN_ID, span_id)
        headers.set(B3_PARENT_ID, parent_id)
        if not context.is_debug:
            headers.set(B3_SAMPLED, b"1")


def render_traceparent(trace_id: bytes, span_id: bytes, flags: int) -> bytes:
    """Render a `traceparent`; a trace id of 8 bytes is filled up with zeros."""
    return b"00-%b-%b-%02x" % (trace_id.rjust(32, b"0"), span_id, flags)
