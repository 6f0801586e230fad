"""The tests. What Python has read of a file is kept for the many processes that they start, whatever the shell says."""

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
