"""`python docker/stack COMMAND`: run, up, down, status, logs, reset, scale, page."""

import sys
from pathlib import Path

# This folder's parent holds the package, the checkout's root holds `chat`.
HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)
sys.path.insert(0, str(HERE.parents[1]))

from stack.commands import main  # noqa: E402  (after the path is right)

sys.exit(main(sys.argv[1:]))
