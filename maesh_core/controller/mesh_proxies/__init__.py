"""Finds the proxies of the whole mesh, and gathers what one controller reports about all of them."""
