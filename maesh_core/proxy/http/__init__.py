"""HTTP/1.1 and 1.0 from clients, HTTP/1.1 to upstreams (RFC 9110, RFC 9112).

llhttp parses heads, one per feed. The mesh parses the framing of bodies itself, so that the end of a message is
unambiguous. Handling a plain request creates no task, no future and no log line.
"""
