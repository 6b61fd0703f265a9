"""The script that Redis runs for a batch of buckets, its arguments, and its answer, which is untrusted.

A bucket is a text `TOKENS TIME`: the tokens at a time of the server's clock in microseconds, so the clocks of nodes do
not matter. A missing key is a full bucket: keys expire when their buckets are full again. Nodes that have asked lately
are members of a sorted set; their number is part of each answer.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

SCRIPT: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if ARGV[2] == '1' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3] * 1000)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local answer = {redis.call('ZCARD', KEYS[1])}
for index = 2, #KEYS do
  local first = 4 + (index - 2) * 5
  local asked, returned = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  local burst, interval = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  local patience = tonumber(ARGV[first + 4])
  local tokens = burst
  local kept = redis.call('GET', KEYS[index])
  if kept then
    local before, at = string.match(kept, '^(%S+) (%S+)$')
    tokens = math.min(burst, tonumber(before) + math.max(0, now - tonumber(at)) / interval)
  end
  tokens = math.min(burst, tokens + returned)
  local granted = math.max(0, math.min(asked, math.floor(tokens + 0.000001)))
  local delay = 0
  if granted == 0 and asked > 0 and (1 - tokens) * interval <= patience then
    granted, delay = 1, math.max(0, (1 - tokens) * interval)
  end
  tokens = tokens - granted
  local due = math.min(1e15, math.max(0, (1 - tokens) * interval))
  local missing_ms = (burst - tokens) * interval / 1000
  if missing_ms > 0 then
    local text = string.format('%.17g %.0f', tokens, now)
    redis.call('SET', KEYS[index], text, 'PX', string.format('%.0f', math.min(1e12, missing_ms) + 1000))
  elseif kept then
    redis.call('DEL', KEYS[index])
  end
  answer[#answer + 1] = granted
  answer[#answer + 1] = math.ceil(delay)
  answer[#answer + 1] = math.ceil(due)
  answer[#answer + 1] = math.max(0, math.floor(tokens))
end
return answer
"""
"""For each bucket: the number of tokens granted, the time until the first of them is due, the time until the next
token, and the number of tokens that are left. Times are in microseconds; a time above 31 years is cut."""

MEMBER_MS: Final = 5000
"""How long a node counts as one of the mesh after its last heartbeat, which it sends every second."""
NODES_LIMIT: Final = 100_000
"""A higher number of nodes in an answer is cut to this."""
DUE_LIMIT_US: Final = 1_000_000_000_000_000
"""Limit of times in an answer; a longer one is an AnswerError."""
FIELDS: Final = 4
"""The numbers of the answer for each bucket."""


class Question(NamedTuple):
    """What is asked of one bucket: a number of tokens, after some are returned.

    If there is none, a token that is due within `patience_us` may be granted in advance.
    """

    key: bytes
    asked: int
    returned: int
    burst: int
    interval_us: float
    patience_us: float


class Grant(NamedTuple):
    """The answer about one bucket; times in seconds from now."""

    granted: int
    delay_s: float
    due_s: float
    left: int


class AnswerError(Exception):
    """The server's answer does not have the form of the script's."""


def build_arguments(
    prefix: bytes, node: bytes, questions: Sequence[Question], *, is_heartbeat: bool
) -> tuple[list[bytes], list[bytes]]:
    """Build the script's KEYS and ARGV."""
    keys = [prefix + b"nodes", *(prefix + each.key for each in questions)]
    arguments = [node, b"1" if is_heartbeat else b"0", b"%d" % MEMBER_MS]
    for each in questions:
        numbers = (each.asked, each.returned, each.burst)
        arguments += [b"%d" % number for number in numbers]
        arguments += [repr(each.interval_us).encode(), repr(each.patience_us).encode()]
    return keys, arguments


def parse_answer(answer: object, questions: Sequence[Question]) -> tuple[int, list[Grant]]:
    """Return the number of nodes and what is granted of each bucket. Raises AnswerError."""
    if not isinstance(answer, list) or len(answer) != 1 + FIELDS * len(questions):
        raise AnswerError("the answer has another shape than the script's")
    if not all(type(number) is int and 0 <= number <= DUE_LIMIT_US for number in answer):
        raise AnswerError("the answer has other values than the script's")
    nodes, *numbers = answer
    grants = []
    for question, first in zip(questions, range(0, len(numbers), FIELDS), strict=True):
        granted, delay_us, due_us, left = numbers[first : first + FIELDS]
        if granted > question.asked or delay_us > question.patience_us + 1:
            raise AnswerError("the answer grants more than was asked")
        grants.append(Grant(granted, delay_us / 1e6, due_us / 1e6, left))
    return max(1, min(nodes, NODES_LIMIT)), grants
