"""Connections to servers: connecting, pooling, sending requests and reading responses."""
