"""Nouns that travel between the stages: keys, resources, events, topology, configuration, messages. No I/O."""
