"""Hooks, the interfaces that plugins see, and loading: what maesh_core/plugin.py publishes is declared here."""
