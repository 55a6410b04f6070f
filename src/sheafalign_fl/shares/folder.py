"""A share on disk: a folder with `share.json` and `weights.safetensors`, there whole or not at all.

::

    RUN_DIR/shares/CLIENT/
      share.json            what the weights are of (`shares.facts`)
      weights.safetensors   encoder, maps, scaling, and what imputation is solved from

A deployed client's lies in its own state folder, ``STATE_DIR/RUN/shares/CLIENT``; nobody else has
it.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from torch import Tensor

from sheafalign_fl.errors import DataError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.learner import state
from sheafalign_fl.listing import listed
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.summary import first_problem
from sheafalign_fl.shares.facts import FORMAT, Facts, ShareFacts
from sheafalign_fl.version import __version__

F = TypeVar("F", bound=Facts)
FACTS, WEIGHTS, SHARES = "share.json", "weights.safetensors", "shares"


def write(folder: Path, facts: ShareFacts, tensors: Mapping[str, Tensor]) -> ShareFacts:
    """Make the share `folder`, or replace it; return the facts with their digests.

    Only its owner can read it: weights may tell of what they were trained on.

    Raises
    ------
    OSError
        It cannot be written; what was there before is still there then.
    """
    content = state.to_bytes(tensors)
    facts = facts.model_copy(update={"weights": hashlib.sha256(content).hexdigest()}).signed()
    replace_folder(folder, {WEIGHTS: content, FACTS: facts.model_dump_json(indent=1).encode()})
    return facts


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `folder` with these files, or put it in the place of what is there, whole or not at all.

    Raises
    ------
    OSError
        It cannot be written; what was there before is still there then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name, content in files.items():
            write_atomically(made / name, content)
        if folder.exists():
            folder.rename(made / "old")
        made.rename(folder)
        shutil.rmtree(folder / "old", ignore_errors=True)
    except BaseException:
        if (made / "old").exists():
            (made / "old").rename(folder)
        shutil.rmtree(made, ignore_errors=True)
        raise


def read(folder: Path) -> tuple[ShareFacts, dict[str, Tensor]]:
    """Return the facts and tensors of the share `folder`.

    Raises
    ------
    DataError
        It is no share, is damaged or was changed, or a newer version of the software wrote it.
    """
    facts = read_facts(folder)
    content = read_weights(
        folder, FACTS, facts.weights,
        ": it is damaged or another share's; copy the share again, or make it anew with "
        "`sheafalign share RUN`",
    )  # fmt: skip
    try:
        return facts, state.from_bytes(content)
    except Exception as error:  # safetensors has errors of its own
        raise DataError(f"{folder / WEIGHTS} is no safetensors file: {error}") from None


def read_facts(folder: Path) -> ShareFacts:
    """Return `share.json` alone; raise `DataError` as `read` does."""
    path = folder / FACTS
    facts = read_json(path, ShareFacts, "share", FORMAT)
    if facts.digest != facts.own_digest():
        raise DataError(f"{path} was changed since it was written: its digest does not fit")
    return facts


def read_json(path: Path, model: type[F], what: str, newest: int) -> F:
    """Return the facts in the file `path` of a folder that is a share, a head, ... (`what`).

    Raises
    ------
    DataError
        The file is not there or damaged, or of a format above `newest`.
    """
    if not path.is_file():
        raise DataError(f"{path.parent} is no {what}: it has no {path.name}")
    try:
        found = json.loads(path.read_bytes())
        written = found.get("format") if isinstance(found, dict) else None
        if isinstance(written, int) and written > newest:
            raise DataError(
                f"{path} is of {what} format {written}, and this version of sheafalign-fl "
                f"({__version__}) reads up to {newest}; use the version that wrote it or a newer "
                "one"
            )
        return model.model_validate(found)
    except ValidationError as error:
        raise DataError(f"{path} is damaged ({first_problem(error)})") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error})") from None


def read_weights(folder: Path, named_in: str, digest: str, mend: str) -> bytes:
    """Return the folder's weights; raise `DataError` unless their SHA-256 is `digest`.

    `mend` says what can be done about it, `named_in` where the digest is written.
    """
    path = folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{path} is not the file that {named_in} names{mend}")
    return content


def has_share(where: Path, client: str, training_digest: str) -> bool:
    """Say whether `where` holds the share of `client` with these final weights."""
    try:
        return read_facts(where / SHARES / client).training_digest == training_digest
    except DataError:
        return False


def is_of_own_run(folder: Path) -> bool:
    """Say whether a share lies in a run's own folder, beside the run's configuration."""
    shares = folder.resolve().parent
    return shares.name == SHARES and RunFolder(shares.parent).config.is_file()


def share_folders(path: Path) -> dict[str, Path]:
    """Return client -> share of a run folder, of a folder of shares, or of one share itself."""
    if (path / FACTS).is_file():
        return {read_facts(path).client: path}
    for folder in (path / SHARES, path):
        if found := listed(folder, f"*/{FACTS}"):
            return {read_facts(facts.parent).client: facts.parent for facts in found}
    return {}
