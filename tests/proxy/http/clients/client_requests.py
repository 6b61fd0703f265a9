"""Requests and responses for the tests of clients' connections."""

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNKNOWN = b"GET / HTTP/1.1\r\nHost: unknown\r\n\r\n"


def read_status(answer):
    return int(answer.split(b" ", 2)[1])


async def ask(world, client, request=GET):
    client.send(request)
    return await world.accept()


PART = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
