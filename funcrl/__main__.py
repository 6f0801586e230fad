"""`python -m funcrl`, the command line as launchers start it."""

import sys

from funcrl.cli import main

if __name__ == "__main__":
    sys.exit(main())
