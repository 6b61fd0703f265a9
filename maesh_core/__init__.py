"""Maesh: a service mesh whose controller works out what traffic may flow, and whose proxies pull that and carry it."""

from maesh_core.compiled import install_finder

__all__ = ["engine"]

engine = install_finder()
"""Says whether the engine's modules are loaded in compiled form; has to be there before any of them is imported."""
