"""The parent process of a node: pulls the configuration, binds sockets, runs workers, serves the admin port."""
