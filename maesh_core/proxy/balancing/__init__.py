"""Servers: who is picked, the connections kept to them, and one connection's exchange of messages."""
