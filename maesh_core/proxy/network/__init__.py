"""Sockets, clocks and connection limits that all protocols of a worker share."""
