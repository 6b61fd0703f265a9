"""Computes what would become of one request, for `maesh explain` and `/api/explain`."""
