"""`python -m funcrl.cli`, the same as `funcrl`."""

import sys

from funcrl.cli import main

if __name__ == "__main__":
    sys.exit(main())
