"""Finds the proxies of the whole mesh, for what one controller reports about all of them."""
