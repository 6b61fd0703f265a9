"""Computes the result of one request, for `maesh explain` and `/api/pods`."""
