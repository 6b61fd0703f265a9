"""The clients of controllers' APIs: what commands such as `maesh status` and `maesh dashboard` ask, and how."""
