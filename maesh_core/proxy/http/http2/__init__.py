"""HTTP/2 on both sides: frames, header compression, flow control, and the translation of messages (RFC 9113)."""
