"""The proxy's half: the service in the parent that renews the certificate, and the transport in each worker."""
