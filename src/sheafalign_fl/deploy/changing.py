"""Changing a deployment's keys: members that join or leave, certificates that are renewed.

Works on the folder of all keys. What changes in its `relay` folder is to be copied to the relay,
which takes it without a restart. Nothing has to be copied to the other clients: see `peers`.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from sheafalign_fl.config.values import is_client_name
from sheafalign_fl.deploy.certificates import AUTHORITY_DAYS, CLIENT_DAYS, Authority, client_name
from sheafalign_fl.deploy.issuing import write_client, write_file, write_operator
from sheafalign_fl.deploy.keys import load_certificate, read_private
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.listing import listed

_OPERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RELAY = "relay"


@dataclass(frozen=True)
class Member:
    """One certificate of a deployment."""

    name: str
    kind: str
    """authority, relay, operator, client, or one of these and ", revoked"."""
    until: datetime


def open_authority(folder: Path) -> Authority:
    """Return the authority whose key lies in the folder of all keys.

    Raises
    ------
    UserError
        There is none, or its key and certificate do not belong together.
    """
    certificate = load_certificate(folder / "ca" / "ca.crt")
    try:
        key = load_pem_private_key(read_private(folder / "ca" / "ca.key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        raise UserError(f"{folder / 'ca' / 'ca.key'} does not belong to ca.crt beside it")
    authority = Authority(key, certificate)
    _complete(folder, authority)
    return authority


def _complete(folder: Path, authority: Authority) -> None:
    """Add what folders lack that were made before members could join and leave."""
    revoked = folder / "relay" / "revoked.crl"
    if not revoked.exists():
        none = authority.sign_revocations([]).public_bytes(Encoding.PEM)
        write_file(revoked, none, private=False)
    for own in listed(folder / "clients", "*/seal.key"):
        name = own.parent.name
        path = folder / "relay" / "peers" / f"{name}.crt"
        if not path.exists():
            seal = load_pem_private_key(read_private(own), None)
            if isinstance(seal, X25519PrivateKey):
                signed = authority.sign_client(seal.public_key(), name, CLIENT_DAYS)
                write_file(path, signed.public_bytes(Encoding.PEM), private=False)


def add_client(folder: Path, name: str, days: int) -> None:
    """Make the keys of one more client.

    Raises
    ------
    UserError
        The name is wrong or taken, or this is not the folder of all keys.
    """
    authority = open_authority(folder)
    if not is_client_name(name):
        raise UserError(f"'{name}' cannot name a client")
    _check_free(folder / "clients" / name)
    peers = {}
    for path in listed(folder / "relay" / "peers", "*.crt"):
        certificate = load_certificate(path)
        key, peer = certificate.public_key(), client_name(certificate)
        if peer is not None and isinstance(key, X25519PublicKey):
            peers[peer] = key
    write_client(folder, authority, name, peers, days)


def add_operator(folder: Path, name: str, days: int) -> None:
    """Make the keys of one more operator.

    Raises
    ------
    UserError
        The name is wrong or taken, or this is not the folder of all keys.
    """
    authority = open_authority(folder)
    if not _OPERATOR.fullmatch(name):
        raise UserError(
            f"{name!a} cannot name an operator: use up to 64 letters, digits, '.', '_' and '-'"
        )
    _check_free(folder / "operators" / name)
    write_operator(folder, authority, name, days)


def renew(folder: Path, name: str, days: int) -> Path:
    """Sign the certificate of the relay, an operator or a client anew; keys stay. Return the file.

    Raises
    ------
    UserError
        There is no such member, or the days are more than an authority's.
    """
    authority = open_authority(folder)
    path = _certificate_of(folder, name)
    if not 0 < days <= AUTHORITY_DAYS:
        raise UserError(f"a certificate cannot be valid for {days} days, but for {AUTHORITY_DAYS}")
    old = x509.load_pem_x509_certificate(path.read_bytes())
    signed = authority.sign_again(old, days).public_bytes(Encoding.PEM)
    write_atomically(path, signed)
    path.chmod(0o644)
    return path


def revoke(folder: Path, name: str) -> None:
    """Take an operator's or a client's certificate back; its keys are moved to `revoked`.

    Raises
    ------
    UserError
        There is no such member, or it is the relay.
    """
    authority = open_authority(folder)
    path = _certificate_of(folder, name)
    if name == RELAY:
        raise UserError(
            "the relay's key cannot be revoked; make new keys with `sheafalign keys init`"
        )
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    revoked = folder / "relay" / "revoked.crl"
    serials = [entry.serial_number for entry in x509.load_pem_x509_crl(revoked.read_bytes())]
    signed = authority.sign_revocations([*serials, certificate.serial_number])
    write_atomically(revoked, signed.public_bytes(Encoding.PEM))
    revoked.chmod(0o644)
    kept = folder / "revoked" / f"{name}-{certificate.serial_number:040x}"
    kept.mkdir(parents=True, mode=0o700)
    write_atomically(kept / "certificate.crt", certificate.public_bytes(Encoding.PEM))
    for kind in ("clients", "operators"):
        if path.is_relative_to(folder / "relay") is (kind == "clients"):
            own = folder / kind / name
            if own.is_dir():
                shutil.move(own, kept / "keys")
    if path.is_relative_to(folder / "relay"):
        (folder / "relay" / "clients" / f"{name}.pub").unlink(missing_ok=True)
        path.unlink()


def members(folder: Path) -> Iterator[Member]:
    """Yield every certificate of the folder of all keys."""
    open_authority(folder)
    patterns = {
        "authority": "ca/ca.crt", "relay": "relay/relay.crt",
        "operator": "operators/*/operator.crt", "client": "relay/peers/*.crt",
        "revoked": "revoked/*/certificate.crt",
    }  # fmt: skip
    for kind, pattern in patterns.items():
        for path in listed(folder, pattern):
            until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
            name = path.stem if kind == "client" else path.parent.name
            if kind == "revoked":
                name = name.rpartition("-")[0]
            yield Member(name, kind, until)


def days_left(until: datetime) -> int:
    """Return how many whole days a certificate still holds; negative if it does not."""
    return (until - datetime.now(UTC)).days


def _check_free(path: Path) -> None:
    if path.exists():
        raise UserError(f"{path} exists already; keys are never overwritten, revoke them first")


def _certificate_of(folder: Path, name: str) -> Path:
    """Return the certificate of a member; `UserError` if there is none, or there are two."""
    if name == RELAY:
        return folder / "relay" / "relay.crt"
    places = [
        folder / "operators" / name / "operator.crt",
        folder / "relay" / "peers" / f"{name}.crt",
    ]
    found = [path for path in places if "/" not in name and path.is_file()]
    if len(found) != 1:
        what = "an operator and a client" if found else "nobody"
        raise UserError(f"'{name}' names {what} in {folder}; see `sheafalign keys list {folder}`")
    return found[0]
