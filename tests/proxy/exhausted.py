"""A double of the operating system that has no descriptors left for a while."""


class ExhaustedListener:
    """A listening socket on which accepting fails with each of the given errno values, and then works."""

    def __init__(self, sock, *failures):
        self.sock, self.failures = sock, list(failures)

    def _accept(self):
        if self.failures:
            raise OSError(self.failures.pop(0), "no more")
        return self.sock._accept()

    def __getattr__(self, name):
        return getattr(self.sock, name)
