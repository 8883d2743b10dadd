"""Print what each attack gets, as docs/design/threats.md shows it: `python -m tests.integration.hostile`."""

from __future__ import annotations

import sys

from .attacks import table

sys.stdout.write(table() + "\n")
