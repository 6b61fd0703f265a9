"""The entrypoints of TCP and UDP service ports: each gets one of its own and keeps it across restarts."""
