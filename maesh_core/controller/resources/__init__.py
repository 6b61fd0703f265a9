"""Builds an indexed snapshot of the cluster's objects from events, and records reads of it. No I/O."""
