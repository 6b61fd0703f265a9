"""HTTP/1.1 and 1.0 from clients, HTTP/1.1 to upstreams (RFC 9110, RFC 9112).

llhttp reads heads, one to a feed; bodies are framed here, so that where a message ends is never in doubt. Nothing on
a request's way makes a task, a future or a log line.
"""
