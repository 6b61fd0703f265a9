"""Modules for every long-running process of the mesh: logging, signals, descriptors, pauses between attempts."""
