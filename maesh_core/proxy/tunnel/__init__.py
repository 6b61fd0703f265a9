"""The engine of tunnels between nodes: HTTP/2 CONNECT streams over mutual TLS. Without policy; see docs/tunnel.md."""
