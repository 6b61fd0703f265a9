"""The source `kubernetes`: lists and watches each kind of object through an API server."""
