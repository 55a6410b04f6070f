"""The process of one run on the relay: the installed ServerApp, never one that was submitted."""

import importlib
import sys
from queue import Queue

from flwr.app import Context
from flwr.server.run_serverapp import run
from flwr.serverapp import Grid
from flwr.simulation.app import run_simulation_process
from flwr.supercore.constant import TaskType
from flwr.supercore.logger import mirror_output_to_queue, restore_output

from sheafalign_fl.flower.local_socket import ADDRESS, speak_through_socket

SERVER_APP = "strategies.server_app"
_MOST_TOKEN = 1024


def main() -> None:
    """Do the task whose kind and parent's process id are arguments; its token is on stdin."""
    kind, parent = TaskType(sys.argv[1]), int(sys.argv[2])
    token = sys.stdin.read(_MOST_TOKEN)
    speak_through_socket()
    lines: Queue[str | None] = Queue()
    mirror_output_to_queue(lines)
    # By its name: the package has a function of the same one, which hides the module.
    module = importlib.import_module("flwr.superlink.runtime.run_serverapp")
    module.run_ = run_installed  # type: ignore[attr-defined]
    work = run_simulation_process if kind == TaskType.SIMULATION else module.run_serverapp
    work(
        runtime_api_address=ADDRESS,
        log_queue=lines,
        token=token,
        insecure=True,
        parent_pid=parent or None,
        runtime_dependency_install=False,
    )
    restore_output()


def run_installed(
    grid: Grid, server_app_dir: str, server_app_attr: str, context: Context
) -> Context:
    """Run the ServerApp that is installed here, whatever was submitted."""
    del server_app_attr
    app = importlib.import_module(SERVER_APP).app
    return run(grid, context, server_app_dir, loaded_server_app=app)


if __name__ == "__main__":
    main()
