"""The mesh on one machine that `maesh up` runs: a controller, and a proxy as its child process."""
