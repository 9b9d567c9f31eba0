"""`python -m avssl.launch.worker <folder>`: a process that `avssl.launch.local` starts."""

import ctypes
import pickle
import signal
import sys
from pathlib import Path

from ..core.screen import prepare_streams
from .ending import hard_exit, run_and_record_exit

JOB = "job.pkl"
PR_SET_PDEATHSIG = 1


def main() -> None:
    if sys.platform == "linux":  # when the command is killed, this process gets SIGTERM: it saves and frees its GPU
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prepare_streams()
    config, training = pickle.loads((Path(sys.argv[1]) / JOB).read_bytes())
    hard_exit(run_and_record_exit(config, training))


if __name__ == "__main__":
    main()
