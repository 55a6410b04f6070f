"""Ends every process of a run, even if its launcher is killed.

Processes of a run carry a mark in their environment, which all their children inherit, Ray's
daemons too. The launcher starts ``python -m sheafalign_fl.engines.guardian MARK`` with a pipe to
its standard input: whichever way the launcher ends, the pipe closes, and the guardian ends what is
left and removes the run's temporary folders.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MARK = "SHEAFALIGN_RUN_MARK"
_TERMINATION_SECONDS = 10.0


@contextmanager
def guarded(mark: str, *folders: Path) -> Iterator[None]:
    """Have all processes with `mark` ended when the block ends or this process dies.

    The run's temporary `folders` are removed then.
    """
    guardian = subprocess.Popen(
        [sys.executable, "-m", "sheafalign_fl.engines.guardian", mark, *map(str, folders)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        end_all(mark)
        if guardian.stdin is not None:
            guardian.stdin.close()
        guardian.wait()


def end_all(mark: str) -> None:
    """End every process with `mark`: ask first, then insist."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes = list(marked(mark))
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(processes, timeout=_TERMINATION_SECONDS)
        if not list(marked(mark)):
            return


def marked(mark: str) -> Iterator[psutil.Process]:
    """Yield the processes that carry `mark`, this one left out."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield process


def commands(mark: str) -> Iterator[str]:
    """Yield the command lines of the processes with `mark`."""
    for process in marked(mark):
        with suppress(psutil.Error):
            yield " ".join(process.cmdline())


if __name__ == "__main__":
    sys.stdin.read()  # returns when the launcher closes the pipe, or has died
    end_all(sys.argv[1])
    for left in sys.argv[2:]:
        shutil.rmtree(left, ignore_errors=True)
