"""The process that carries traffic: handlers, their configuration, and the orders of the parent."""
