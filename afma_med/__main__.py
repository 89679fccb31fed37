"""``python -m afma_med``: the ``afma`` command."""

import sys

from afma_med.cli import main

sys.exit(main())
