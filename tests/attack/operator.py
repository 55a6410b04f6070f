"""An operator on a machine of its own: `python -m tests.attack.operator HOST:PORT KEYS VERB [RUN]`.

Prints what it got, or `refused: ` and the reason.
"""

import json
import sys
import tempfile
from pathlib import Path

from sheafalign_fl.config import encode
from sheafalign_fl.deploy.keys import load_operator_keys
from sheafalign_fl.engines.app_folder import make_app_folder
from sheafalign_fl.errors import SheafAlignError
from sheafalign_fl.flower.control import Control
from tests.conftest import toy_settings


def main() -> None:
    """Do one thing, or for `hold`: list runs again for every line on standard input."""
    address, keys, verb = sys.argv[1:4]
    control = Control.at(address, load_operator_keys(Path(keys)))
    for _ in sys.stdin if verb == "hold" else [""]:
        try:
            print(json.dumps(act(control, verb)), flush=True)
        except SheafAlignError as error:
            print(f"refused: {error}", flush=True)


def act(control: Control, verb: str) -> object:
    """Submit, stop or list."""
    if verb == "submit":
        with tempfile.TemporaryDirectory() as name:
            app = make_app_folder(Path(name) / "app")
            return control.start(
                app, {"config": encode(toy_settings()), "run-dir": sys.argv[4], "resume": False}
            )
    if verb == "stop":
        control.stop(sys.argv[4])
        return None
    return {run.run_id: run.status for run in control.runs()}


if __name__ == "__main__":
    main()
