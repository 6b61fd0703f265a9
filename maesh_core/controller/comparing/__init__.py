"""Compares two states of a mesh by what changes for traffic, for `maesh diff`."""
