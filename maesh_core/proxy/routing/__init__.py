"""What the controller sent becomes what the protocol handlers route by: checked, resolved, compiled, switched whole."""
