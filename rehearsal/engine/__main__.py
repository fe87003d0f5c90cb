"""`python -m rehearsal.engine`: the embedded engine's command line."""

from __future__ import annotations

import sys

from rehearsal.engine.cli import main

sys.exit(main())
