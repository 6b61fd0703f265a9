"""What the counters and the record say of a request: shared by the tests of all ways in which one ends."""

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
FIRST, SECOND = "10.0.1.1:80", "10.0.1.2:80"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
EJECTED = {("maesh_service_server_ejections", "a"): 1}


NO_ATTEMPT = {"server": "", "attempts": 0, "upstream_s": None}


def size(reason):
    """The bytes of the mesh's answer with this reason."""
    return len(reason) + 1


def describe_answer(status, reason, **fields):
    """The fields of the record of a request that the mesh answers."""
    return {"status": status, "reason": reason, "sent_bytes": size(reason), "is_answer": True, **fields}
