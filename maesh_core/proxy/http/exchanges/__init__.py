"""One request and its response: middlewares, attempts at servers, and tunnels."""
