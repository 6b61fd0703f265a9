"""Heads and bodies of HTTP/1.1 messages: parsed, checked and rendered. No I/O."""
