"""TCP, passed through byte for byte: each entrypoint leads to the servers of one service port."""
