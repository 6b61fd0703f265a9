"""Rebuilds what a change concerns: events in, a new revision of the configuration out."""
