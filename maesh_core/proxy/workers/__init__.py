"""The processes of one node: a parent that pulls and binds, and workers that carry traffic.

The parent (`python -m maesh_core.proxy`, plain asyncio, proxy/node) owns what there is once for a node: the pulling,
the encoded configuration, the sockets, the admin port, the counters' sum (`counters`) and the signals.
It starts `--workers` processes (`spawning`, `link`, `pool`), always at least one, and replaces one that dies. It loads
no plugin and no uvloop: what a configuration means, it hears from the workers.

A worker (proxy/worker, one uvloop loop) loads the plugins and carries out the parent's orders: put an update in
force, listen on these sockets, count, drain. The two talk over one pair of Unix sockets (`channel`, `messages`); that
a worker's end reads end-of-file means that the parent is gone, however it died, and ends the worker.

* Updates travel as the bytes that were pulled. Every worker judges them by itself and comes to the same verdict; one
  that is behind, because it is new, is given the whole.
* Every entrypoint has a socket for each slot of the pool, bound by the parent, which keeps a copy: when a worker dies,
  what waits on its socket is accepted by its successor. To close an entrypoint, the parent lets go first; then each
  worker accepts what waits and closes.
* With more than one slot the sockets of an entrypoint are one SO_REUSEPORT group, over which the kernel spreads
  connections. The group's members and their order change only with the entrypoint itself, so that a client of UDP
  stays with its slot.
"""
