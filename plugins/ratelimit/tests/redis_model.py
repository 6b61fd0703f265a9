"""The script of the store `redis` in Python, for simulations; a test compares it with the script in a real server."""

import math

from maesh_ratelimit.redis_store.script import Question


class ModelRedis:
    """Buckets by key; `now_us` is the server's clock."""

    def __init__(self):
        self.now_us = 1_700_000_000_000_000
        self.buckets = {}

    def run(self, questions: list[Question]) -> list[int]:
        """Return what the script returns after the number of nodes."""
        answer = []
        for each in questions:
            answer += self._run_one(each)
        return answer

    def _run_one(self, question):
        tokens, at = self.buckets.get(question.key, (question.burst, self.now_us))
        tokens = min(question.burst, tokens + max(0, self.now_us - at) / question.interval_us)
        tokens = min(question.burst, tokens + question.returned)
        granted, delay = max(0, min(question.asked, math.floor(tokens + 0.000001))), 0.0
        if granted == 0 and question.asked and (1 - tokens) * question.interval_us <= question.patience_us:
            granted, delay = 1, max(0.0, (1 - tokens) * question.interval_us)
        tokens -= granted
        self.buckets[question.key] = (tokens, self.now_us)
        due = min(1e15, max(0.0, (1 - tokens) * question.interval_us))
        return [granted, math.ceil(delay), math.ceil(due), max(0, math.floor(tokens))]
