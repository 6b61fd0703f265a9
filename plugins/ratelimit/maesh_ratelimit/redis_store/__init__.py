"""The store `redis`: a Redis or Valkey server has the buckets, so a limit holds for all nodes of the mesh together.

A worker leases tokens of the clients that it serves, in batches and before it needs them, and spends them without
asking. `leases.py` decides what to lease, `limiter.py` spends, `driver.py` asks, `connection.py` speaks to the server,
and `script.py` is what runs there. Only a proxy with the setting `redis-url` imports it.
"""
