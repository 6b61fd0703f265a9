"""Converts raw text and documents to checked values: durations, networks, header fields, similar names."""
