"""Making the keys of a deployment; the folder's layout is in `keys`."""

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sheafalign_fl.config.values import is_client_name
from sheafalign_fl.deploy.certificates import (
    AUTHORITY_DAYS,
    CLIENT_DAYS,
    OPERATOR,
    OPERATOR_DAYS,
    RELAY_DAYS,
    Authority,
    address_of,
)
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import new_folder
from sheafalign_fl.listing import is_free

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_LONGEST_HOST = 253


def init_keys(
    folder: Path, clients: Sequence[str], hosts: Sequence[str], days: int = RELAY_DAYS
) -> None:
    """Make an authority, the relay's certificate, a first operator's and every client's keys.

    Parameters
    ----------
    folder
        New, or empty.
    clients
        Names of all clients, as the configuration has them.
    hosts
        Names and addresses under which clients reach the relay, beside this machine's own.
    days
        How long the relay's certificate is valid.

    Raises
    ------
    UserError
        The folder exists and is not empty, or a name is wrong.
    """
    _check_names(clients, hosts)
    if not 0 <= days <= AUTHORITY_DAYS:
        raise UserError(
            f"the relay's certificate cannot be valid for {days} days; the authority's is for "
            f"{AUTHORITY_DAYS}"
        )
    folder = folder.resolve()
    if not is_free(folder):
        raise UserError(f"{folder} exists already; keys are never overwritten, give another folder")
    with new_folder(folder) as made:
        write_file(made / ".gitignore", b"*\n", private=False)
        _make(made, clients, hosts, days)


def _check_names(clients: Sequence[str], hosts: Sequence[str]) -> None:
    if len(clients) < 2:
        raise UserError("keys are for two clients at least; give --clients camera,lidar")
    for name in clients:
        if not is_client_name(name):
            raise UserError(f"'{name}' cannot name a client")
        if clients.count(name) > 1:
            raise UserError(f"the client '{name}' is named twice")
    for host in hosts:
        named = (
            _HOST.fullmatch(host)
            and len(host) <= _LONGEST_HOST
            and not host.rpartition(".")[2].isdigit()
        )
        if address_of(host) is None and not named:
            raise UserError(f"'{host}' is no host name and no address; give it without a port")


def _make(folder: Path, clients: Sequence[str], hosts: Sequence[str], days: int) -> None:
    authority = Authority.new()
    root = authority.certificate.public_bytes(Encoding.PEM)
    write_file(folder / "ca" / "ca.crt", root, private=False)
    write_file(folder / "ca" / "ca.key", pem(authority.key), private=True)
    relay = ec.generate_private_key(ec.SECP256R1())
    signed = authority.sign_relay(relay.public_key(), hosts, days).public_bytes(Encoding.PEM)
    none = authority.sign_revocations([]).public_bytes(Encoding.PEM)
    write_file(folder / "relay" / "ca.crt", root, private=False)
    write_file(folder / "relay" / "relay.crt", signed, private=False)
    write_file(folder / "relay" / "relay.key", pem(relay), private=True)
    write_file(folder / "relay" / "revoked.crl", none, private=False)
    write_operator(folder, authority, OPERATOR, min(days, OPERATOR_DAYS))
    seals = {name: X25519PrivateKey.generate() for name in clients}
    keys = {name: seal.public_key() for name, seal in seals.items()}
    for name, seal in seals.items():
        write_client(folder, authority, name, keys, CLIENT_DAYS, seal)


def write_operator(folder: Path, authority: Authority, name: str, days: int) -> None:
    """Write the keys of the operator `name` into the folder of all keys."""
    own = folder / "operators" / name
    key = ec.generate_private_key(ec.SECP256R1())
    signed = authority.sign_operator(key.public_key(), name, days).public_bytes(Encoding.PEM)
    root = authority.certificate.public_bytes(Encoding.PEM)
    write_file(own / "ca.crt", root, private=False)
    write_file(own / "operator.crt", signed, private=False)
    write_file(own / "operator.key", pem(key), private=True)


def write_client(
    folder: Path,
    authority: Authority,
    name: str,
    peers: Mapping[str, X25519PublicKey],
    days: int,
    seal: X25519PrivateKey | None = None,
) -> None:
    """Write the keys of the client `name` into the folder of all keys, and the relay's of it.

    Parameters
    ----------
    peers
        All clients' sealing keys, pinned; its own is left out.
    days
        How long the authority vouches for its sealing key.
    seal
        That key; default: a new one.
    """
    own, seal = folder / "clients" / name, seal or X25519PrivateKey.generate()
    node = ec.generate_private_key(ec.SECP384R1())
    public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    pins = {peer: text(key) for peer, key in peers.items() if peer != name}
    private = node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    signed = authority.sign_client(seal.public_key(), name, days).public_bytes(Encoding.PEM)
    root = authority.certificate.public_bytes(Encoding.PEM)
    write_file(own / "ca.crt", root, private=False)
    write_file(own / "node.key", private, private=True)
    write_file(own / "node.pub", public, private=False)
    write_file(own / "seal.key", pem(seal), private=True)
    pinned = json.dumps({"name": name, "peers": pins}, indent=1).encode()
    write_file(own / "peers.json", pinned, private=False)
    write_file(folder / "relay" / "peers" / f"{name}.crt", signed, private=False)
    write_file(folder / "relay" / "clients" / f"{name}.pub", public, private=False)


def pem(key: ec.EllipticCurvePrivateKey | X25519PrivateKey) -> bytes:
    """Return a private key as it is kept in a file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def text(key: X25519PublicKey) -> str:
    """Return a public key as it stands in peers.json."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def write_file(path: Path, content: bytes, *, private: bool) -> None:
    """Write the new file at `path`, for its owner's eyes only if it is private."""
    for folder in reversed(path.parents):  # `parents=True` would give outer ones the default mode
        folder.mkdir(exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o600 if private else 0o644)
