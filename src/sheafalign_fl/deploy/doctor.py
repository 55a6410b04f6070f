"""What is wrong with a machine of a deployment, before it shows: findings, each with its cure."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from cryptography import x509
from packaging.requirements import Requirement

from sheafalign_fl.deploy.keys import SOON_DAYS
from sheafalign_fl.errors import UserError
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.trust import MOST_AHEAD, MOST_BEHIND, Seen, look
from sheafalign_fl.listing import listed

OK, WARNING, FAILURE = "ok", "warning", "failure"
_LEAST_BYTES = 200_000_000
_FEW_BYTES = 2_000_000_000
_MATTER = ("flwr", "torch", "numpy", "pydantic", "cryptography", "httpx")
_OTHERS = 0o077
_CLOCK_SECONDS = 2.0
"""So far may clocks be apart before it is worth a warning."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    state: str
    """OK, WARNING or FAILURE."""
    found: str
    cure: str = ""


@dataclass(frozen=True)
class Patient:
    """What is to be looked at; what is None is left out."""

    state: Path
    relay: Address | None = None
    keys: Path | None = None


def examine(patient: Patient) -> list[Finding]:
    """Look at everything; whatever is wrong is a finding, never an exception."""
    findings = [*_versions(), *_disk(patient.state), *_private(patient.state, "state")]
    if patient.keys is not None:
        findings += [*_private(patient.keys, "keys"), *_certificates(patient.keys)]
    if patient.relay is not None:
        findings += _relay(patient.relay, patient.keys)
    return findings


def _versions() -> Iterator[Finding]:
    """Compare what is installed with what this package declares that it needs."""
    yield Finding("Python", OK, ".".join(map(str, sys.version_info[:3])))
    for declared in map(Requirement, requires("sheafalign-fl") or ()):
        if declared.name not in _MATTER or declared.marker is not None:
            continue
        try:
            here = version(declared.name)
        except PackageNotFoundError:
            here = "not installed"
        fits = here != "not installed" and declared.specifier.contains(here, prereleases=True)
        cure = "" if fits else f"pip install '{declared}'"
        yield Finding(declared.name, OK if fits else FAILURE, here, cure)


def _disk(folder: Path) -> Iterator[Finding]:
    """Look at the room on the disk of a folder, and whether it can be written to."""
    here = folder.absolute()
    while not here.exists():
        here = here.parent
    free = shutil.disk_usage(here).free
    enough = OK if free >= _FEW_BYTES else WARNING if free >= _LEAST_BYTES else FAILURE
    cure = "" if enough == OK else "make room, or give --state a folder on another disk"
    yield Finding("disk", enough, f"{free / 1e9:.1f} GB free at {here}", cure)
    try:
        with tempfile.TemporaryFile(dir=here) as file:
            file.write(b"\0")
    except OSError as error:
        cure = f"make it writable for user {os.getuid()}, or give another --state"
        yield Finding("state folder", FAILURE, f"{here}: {error.strerror}", cure)
    else:
        yield Finding("state folder", OK, f"{here} can be written to")


def _private(folder: Path, name: str) -> Iterator[Finding]:
    """Look for what others can read: everything in a state folder, private keys in one of keys."""
    if not folder.exists():
        if name == "keys":
            yield Finding("keys", FAILURE, f"there is no {folder}", "copy it from `keys init`")
        return
    looked = folder.rglob("*.key" if name == "keys" else "*")
    try:
        files = [path for path in (folder, *looked) if name == "state" or path != folder]
        status = [(path, path.lstat()) for path in files if not path.is_symlink()]
    except OSError as error:
        yield Finding(f"{name}: permissions", FAILURE, f"{error.filename}: {error.strerror}",
                      "run this as the user that the service runs as")  # fmt: skip
        return
    open_ones = [path for path, facts in status if facts.st_mode & _OTHERS]
    foreign = [path for path, facts in status if facts.st_uid != os.getuid()]
    if open_ones:
        state = FAILURE if name == "keys" else WARNING
        found = f"others can read {open_ones[0]}{_more(open_ones)}"
        yield Finding(f"{name}: permissions", state, found, f"chmod -R go= {folder}")
    if foreign:
        found = f"{foreign[0]}{_more(foreign)} belongs to user {foreign[0].lstat().st_uid}"
        yield Finding(f"{name}: owner", FAILURE, found, f"chown -R {os.getuid()} {folder}")
    if not open_ones and not foreign:
        yield Finding(f"{name}: permissions", OK, f"{folder} is this user's alone")


def _more(paths: list[Path]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""


def _certificates(folder: Path) -> Iterator[Finding]:
    """Look at the dates of every certificate in a folder of keys."""
    for path in listed(folder, "**/*.crt"):
        if "revoked" in path.parts:
            continue
        about, now = str(path.relative_to(folder)), datetime.now(UTC)
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            yield Finding(about, FAILURE, "is no certificate", "copy it again")
            continue
        left = (certificate.not_valid_after_utc - now).days
        until = f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}"
        renew = "sheafalign keys renew, and copy it again"
        if certificate.not_valid_before_utc > now:
            begins = f"valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
            yield Finding(about, FAILURE, begins, "set this machine's clock")
        elif left < 0:
            yield Finding(about, FAILURE, f"expired: {until}", renew)
        else:
            state = WARNING if left < SOON_DAYS else OK
            yield Finding(about, state, until, renew if state == WARNING else "")


def _relay(address: Address, keys: Path | None) -> Iterator[Finding]:
    """Look at a relay from here: reachable, trusted, its names, its clock."""
    try:
        seen = look(address, None if keys is None else authority_in(keys))
    except UserError as error:
        yield Finding("relay", FAILURE, str(error), "give --keys the folder of this machine")
        return
    if seen.trouble:
        found, _, cure = seen.trouble.partition("; ")
        cure = cure or f"start it, or open port {address.port} of its firewall"
        yield Finding("relay", FAILURE, found, cure)
    else:
        yield Finding("relay", OK, f"{address} answers")
    if seen.names:
        fits = address.host in seen.names
        cure = f"use one of these names, or `keys init` with --host {address.host}"
        state = OK if fits else FAILURE
        yield Finding("relay's names", state, ", ".join(seen.names), "" if fits else cure)
    yield from _clock(seen)


def _clock(seen: Seen) -> Iterator[Finding]:
    """Compare this machine's clock with the relay's, by what Flower bears."""
    if seen.ahead is None:
        return
    off = abs(seen.ahead)
    if off <= _CLOCK_SECONDS:
        yield Finding("clock", OK, f"within {_CLOCK_SECONDS:.0f} s of the relay's")
        return
    borne = -MOST_BEHIND < seen.ahead < MOST_AHEAD
    side = "ahead of" if seen.ahead > 0 else "behind"
    found = f"{off:.0f} s {side} the relay's" + ("" if borne else ": the relay refuses this node")
    cure = "set the clocks of both machines (NTP)"
    yield Finding("clock", WARNING if borne else FAILURE, found, cure)


def authority_in(keys: Path) -> Path:
    """Return the authority's certificate in a folder of keys, anyone's; `UserError` without."""
    candidates: Iterable[Path] = (keys / "ca.crt", keys / "ca" / "ca.crt", keys / "relay/ca.crt")
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"{keys} has no ca.crt; it comes with `sheafalign keys init`")
