"""What any long-running process of the mesh needs: logging, signals, descriptors, pauses between attempts."""
