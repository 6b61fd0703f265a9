"""`python -m maesh_core.cli`: the console script without an installed script."""

import sys

from maesh_core.cli import main

sys.exit(main())
