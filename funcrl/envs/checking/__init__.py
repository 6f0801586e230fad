"""`check_env`: what is wrong with an environment of one's own, and what to change.

`check.py` has the order of things and the checks of programs (vmap, sweeps, compiling, autoreset);
`protocol.py` what an environment must have, `elements.py` what may be in a space, `walking.py` what
shows in random episodes, `problems.py` how several problems are told together.
"""

from funcrl.envs.checking.check import check_env
from funcrl.envs.checking.protocol import check_returns

__all__ = ["check_env", "check_returns"]
