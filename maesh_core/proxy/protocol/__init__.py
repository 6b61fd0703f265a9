"""The protocols that the core carries; plugins bring more through `maesh_protocol_handlers`."""
