"""Events become an indexed snapshot of the cluster's objects, and reads of it are recorded. No I/O."""
