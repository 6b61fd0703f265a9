"""Balancing: selecting a server for each request or connection, and passive health."""
