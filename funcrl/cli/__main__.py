"""`python -m funcrl.cli`, the same as `funcrl`."""

import sys

from funcrl.cli import main

sys.exit(main())
