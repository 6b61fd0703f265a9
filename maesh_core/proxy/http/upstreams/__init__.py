"""Connections to servers: pooled, opened, and read."""
