"""Loads the corpus of tests/data/http, and cuts its cases into the pieces in which they arrive."""

import importlib.util
import sys
from pathlib import Path

PATH = Path(__file__).parents[2] / "data" / "http" / "corpus.py"
SPEC = importlib.util.spec_from_file_location("maesh_test_corpus", PATH)
corpus = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(corpus)

SPLIT_LIMIT = 400
"""Longer cases are split at so many places, evenly spread."""


def list_cuts(data):
    """List ways to cut bytes: not at all, in two at every byte, and each byte alone."""
    step = max(1, len(data) // SPLIT_LIMIT)
    cuts = [[data], *([data[:at], data[at:]] for at in range(1, len(data), step))]
    return cuts if step > 1 else [*cuts, [data[at : at + 1] for at in range(len(data))]]
