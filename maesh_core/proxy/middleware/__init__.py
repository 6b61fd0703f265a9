"""Middlewares of a route, compiled into one chain."""
