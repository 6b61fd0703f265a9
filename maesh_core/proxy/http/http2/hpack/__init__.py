"""The compression of header lists (RFC 7541): blocks of bytes from and to lists of fields. Knows no frames."""
