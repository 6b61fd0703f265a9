"""Checks of a whole policy for `maesh check`: findings with codes, files and lines, from an engine that has run."""
