"""TCP, forwarded byte for byte: each entrypoint belongs to one service port."""
