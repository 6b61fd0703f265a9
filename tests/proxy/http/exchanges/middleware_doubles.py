"""Requests, and middlewares that record their calls, for the tests of exchanges with middlewares."""

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 3\r\n\r\nabc"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


async def ask(world, request=GET):
    client = world.open_client()
    client.send(request)
    return client, await world.accept()


def get_status(client):
    return int(client.take().split(b" ", 2)[1])


class Recorder:
    """Returns the given results, and records its calls."""

    def __init__(self, name, calls, *, on_request=None, repeats=()):
        self.name, self.calls, self.result, self.repeats = name, calls, on_request, list(repeats)

    def on_request(self, exchange):
        self.calls.append((self.name, "request"))
        return self.result

    def on_attempt_failed(self, exchange, error):
        self.calls.append((self.name, "failed", getattr(error, "status", None)))
        return self.repeats.pop(0) if self.repeats else None

    def on_response(self, exchange):
        self.calls.append((self.name, "response", exchange.status))
        return self.repeats.pop(0) if self.repeats else None

    def on_finished(self, exchange):
        self.calls.append((self.name, "finished", exchange.status, exchange.attempts))


class Retry:
    """Asks for another attempt after every failure and every 503, or says what it was told to."""

    def __init__(self, word=True, *, kept_bytes=0, timeout_s=0.0):
        self.word, self.kept_bytes, self.timeout_s, self.errors = word, kept_bytes, timeout_s, []

    def on_request(self, exchange):
        exchange.attempt_timeout_s = self.timeout_s

    def on_attempt_failed(self, exchange, error):
        self.errors.append(type(error))
        return self.word

    def on_response(self, exchange):
        return self.word if exchange.status == 503 else None
