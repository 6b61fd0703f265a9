"""From routes and the node of a service to the rules of its ports, and to what became of each parentRef."""
