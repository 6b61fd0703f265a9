"""The live view of traffic for `/api/tap`: merges the taps of all proxies, and names the pods of clients."""
