"""
Make ``python -m aiclient2api`` the same as the ``aiclient2api`` command.

It knows nothing of the command line: that is `aiclient2api.cli`.
"""

from __future__ import annotations

import sys

from aiclient2api.cli import main

if __name__ == "__main__":
    sys.exit(main())
