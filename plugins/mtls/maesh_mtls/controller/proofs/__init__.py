"""Which node a request comes from, and the page on which nodes get their certificates."""
