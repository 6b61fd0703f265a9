"""The source `manifests`: files and folders are read, watched, and merged into one set of objects."""
