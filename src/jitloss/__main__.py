"""``python -m jitloss``, the same as ``jitloss``."""

import sys

from .cli import main

sys.exit(main())
