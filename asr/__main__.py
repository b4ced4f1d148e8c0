"""`python -m asr`: the same as the command `asr`."""

from __future__ import annotations

import sys

from asr.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
