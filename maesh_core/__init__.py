"""Maesh: a service mesh whose controller works out what traffic may flow, and whose proxies pull that and carry it."""
