"""The types of the values that stages exchange: keys, resources, events, topology, configuration, messages. No I/O."""
