"""The controller's half: the authority that signs nodes' certificates, and the rules about nodes and modes."""
