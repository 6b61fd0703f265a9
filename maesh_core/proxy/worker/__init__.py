"""The worker process, which routes traffic: handlers, their configuration, and the parent's orders."""
