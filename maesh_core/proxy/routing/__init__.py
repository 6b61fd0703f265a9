"""Turns configuration into routing: checks, resolves and compiles updates, and applies each one as a whole."""
