"""`python -m maesh_core.cli`: the same as the console script `maesh`."""

import sys

from maesh_core.cli import main

sys.exit(main())
