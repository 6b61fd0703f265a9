"""Connections from clients: accepted, read, paced and closed."""
