"""The relay's SuperExec: starts a process for every run, without telling everybody the run's token.

Flower's own passes the token on the command line, where every user of the machine can read it.
"""

import subprocess
import sys

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec as superexec
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult
from flwr.supercore.utils import disable_process_dumping

from sheafalign_fl.flower.local_socket import ADDRESS, speak_through_socket

SERVED = {TaskType.SERVER_APP, TaskType.SIMULATION}
"""Runs of other kinds (Flower's agents, models, connectors) are never started."""


class PipeExecutor(SubprocessExecutor):
    """Starts a run's process and hands it the token through a pipe."""

    def get_eligible_capacity(
        self,
        supported_task_types: set[TaskType],
        *,
        insecure: bool = False,
        root_certificates_path: str | None = None,
    ) -> tuple[set[TaskType], set[str]]:
        """Return the kinds of task that are started here."""
        del insecure, root_certificates_path
        return supported_task_types & SERVED, set()

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start a process for one task."""
        if spec.task_type not in SERVED:
            return LaunchResult.failed(f"tasks of the kind {spec.task_type} are not started here")
        words = ["-m", "sheafalign_fl.flower.task", spec.task_type, str(spec.parent_pid or 0)]
        process = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE)
        if process.stdin is not None:
            process.stdin.write(spec.token.encode())
            process.stdin.close()
        return LaunchResult.accepted()


def main() -> None:
    """Serve the SuperLink whose process id is this program's argument."""
    disable_process_dumping(strict=False)
    speak_through_socket()
    superexec.get_executor = lambda *_, **__: PipeExecutor()  # type: ignore[attr-defined]
    superexec.run_superexec(
        runtime_api_address=ADDRESS,
        insecure=True,
        parent_pid=int(sys.argv[1]),
        runtime_dependency_install=False,
    )


if __name__ == "__main__":
    main()
