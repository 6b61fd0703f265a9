"""The middlewares of a route, compiled into one chain."""
