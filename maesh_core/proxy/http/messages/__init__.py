"""Heads and bodies of HTTP/1.1 messages: parsing, checks and rendering. No I/O."""
