"""The processes of one node: a parent that pulls and binds, and workers that route traffic.

The parent (`python -m maesh_core.proxy`, plain asyncio, proxy/node) owns what exists once per node: the poller, the
encoded configuration, the sockets, the admin port, the sum of the counters (`counters`) and the signals. It starts
`--workers` processes (`spawning`, `link`, `pool`), always at least one, and replaces one that ends. It loads no plugin
and no uvloop: the workers report what a configuration contains.

A worker (proxy/worker, one uvloop loop) loads the plugins and executes the parent's orders: apply an update, listen on
these sockets, report counters, drain. They communicate over one pair of Unix sockets (`channel`, `messages`). When a
worker reads end-of-file there, its parent is gone, and the worker ends.

* Updates are sent as the bytes that were pulled. Every worker checks them separately, with the same result. A new
  worker receives the full configuration.
* Every entrypoint has one socket per slot of the pool. The parent binds it and keeps a copy: when a worker ends, its
  replacement accepts the connections that wait on its socket. To close an entrypoint, the parent first closes its
  copies; each worker then accepts waiting connections and closes.
* With more than one slot, the sockets of an entrypoint form one SO_REUSEPORT group, over which the kernel distributes
  connections. The members of the group and their order change only with the entrypoint itself, so that a UDP client
  stays with its slot.
"""
