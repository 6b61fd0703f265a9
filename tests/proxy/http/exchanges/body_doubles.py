"""Middlewares that use bodies, for the tests of flows."""

import asyncio


class Upper:
    """A transform that appends `!` at the end, and records how it has ended."""

    def __init__(self, calls=None, *, is_async=False):
        self.calls = [] if calls is None else calls
        self.is_async = is_async

    def feed(self, data):
        return self.feed_later(data) if self.is_async else data.upper()

    async def feed_later(self, data):
        await asyncio.sleep(0)
        return data.upper()

    def end(self, trailers):
        self.calls.append(("end", trailers))
        return b"!"

    def close(self):
        self.calls.append("close")


class Tap:
    def __init__(self):
        self.seen, self.ends = b"", []

    def observe(self, data):
        self.seen += data

    def end(self, *, is_complete):
        self.ends.append(is_complete)


class Uses:
    """Uses the body of requests, of responses, or of both."""

    def __init__(self, request=None, response=None):
        self.request, self.response = request, response
        self.lengths = []

    def on_request_body(self, exchange):
        return self.request() if callable(self.request) else self.request

    def on_response_body(self, exchange):
        self.lengths.append(exchange.response_length)
        return self.response() if callable(self.response) else self.response
