"""Checks a running mesh and its cluster, for `maesh check --cluster`. Reads only; writes nothing."""
