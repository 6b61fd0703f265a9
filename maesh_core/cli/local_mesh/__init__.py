"""A whole mesh on one machine, which `maesh up` runs: a controller, and a proxy as its child."""
