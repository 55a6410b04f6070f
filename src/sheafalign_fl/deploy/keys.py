"""Keys and certificates of a deployment, as they lie in folders.

::

    DIR/
      ca/        ca.crt, ca.key             the certificate authority; stays where it was made
      relay/     ca.crt, relay.crt, relay.key, clients/NAME.pub
                 peers/NAME.crt             who has which sealing key, signed by the authority
                 revoked.crl                certificates that the authority has taken back
      operators/NAME/                       what lets its owner submit, list and stop runs:
                 ca.crt, operator.crt, operator.key
      revoked/   what was taken back
      clients/NAME/                         what NAME's machine needs, and nothing else:
                 ca.crt                     to know the relay by
                 node.key, node.pub         Flower's SuperNode authentication (ECDSA P-384, OpenSSH)
                 seal.key                   sealed edges (X25519)
                 peers.json                 the other clients' public keys for them, pinned
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from sheafalign_fl.deploy.peers import FILE, Peers
from sheafalign_fl.errors import UserError
from sheafalign_fl.flower.control import OperatorFiles
from sheafalign_fl.listing import listed

SOON_DAYS = 30


@dataclass(frozen=True)
class ClientKeys:
    """What a client's machine has."""

    name: str
    folder: Path
    ca: Path
    node_key: Path
    seal: X25519PrivateKey
    peers: Mapping[str, X25519PublicKey]
    """The other clients' pinned public keys."""

    def load_node_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the key that the relay knows this client by."""
        return _node_key(self.node_key)


@dataclass(frozen=True)
class RelayKeys:
    """What the relay has."""

    folder: Path
    ca: Path
    certificate: Path
    key: Path
    revoked: Path
    """Serial numbers of certificates that the authority has taken back, signed by it."""
    clients: Mapping[str, Path]
    """Client -> its public node key."""


def load_client_keys(
    folder: Path, name: str | None = None, state: Path | None = None
) -> ClientKeys:
    """Return the keys in a client's own `folder`, or those of `name` in the folder of all keys.

    With the `state` folder of its node, peers are also those that the authority has named since.

    Raises
    ------
    UserError
        Something is missing, readable by others, of the wrong kind, or belongs to another client.
    """
    own = (
        folder / "clients" / name if name is not None and (folder / "clients").is_dir() else folder
    )
    own = own.resolve()
    content = _read(own / "peers.json")
    try:
        facts = json.loads(content)
        owner = facts["name"]
        if not isinstance(owner, str):
            raise TypeError("name is no text")
        peers = {
            str(peer): X25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
            for peer, key in facts["peers"].items()
        }
        if (
            not peers
            or owner in peers
            or len({key.public_bytes_raw() for key in peers.values()}) < len(peers)
        ):
            raise ValueError("the peers are not some other clients, each with a key of its own")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{own / 'peers.json'} is damaged ({error}); copy it again") from None
    if name is not None and owner != name:
        raise UserError(f"the keys in {own} are those of client '{owner}', not of '{name}'")
    seal = read_private(own / "seal.key")
    try:
        seal_key = load_pem_private_key(seal, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        seal_key = None
    if not isinstance(seal_key, X25519PrivateKey):
        raise UserError(f"{own / 'seal.key'} is no X25519 private key; copy it again")
    _node_key(own / "node.key")
    authority = load_certificate(own / "ca.crt")
    if state is not None:
        peers = Peers(state / FILE, authority).keys(peers)
        peers.pop(owner, None)
    return ClientKeys(owner, own, own / "ca.crt", own / "node.key", seal_key, peers)


def load_relay_keys(folder: Path) -> RelayKeys:
    """Return the keys in the relay's own `folder`, or those of the relay in the folder of all keys.

    Raises
    ------
    UserError
        Something is missing, readable by others, of the wrong kind, or expired.
    """
    own = (folder / "relay" if (folder / "relay").is_dir() else folder).resolve()
    authority, certificate = load_certificate(own / "ca.crt"), load_certificate(own / "relay.crt")
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise UserError(
            f"{own / 'relay.crt'} was not signed by {own / 'ca.crt'}; "
            "both come from one `keys init`"
        ) from None
    try:
        key = load_pem_private_key(read_private(own / "relay.key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UserError(f"{own / 'relay.key'} is no private key; copy it again") from None
    if key.public_key() != certificate.public_key():
        raise UserError(
            f"{own / 'relay.key'} does not belong to {own / 'relay.crt'}; "
            "take both from one `keys init`"
        )
    clients = {path.stem: path for path in listed(own / "clients", "*.pub")}
    if not clients:
        raise UserError(f"{own / 'clients'} has no client's public key (NAME.pub)")
    _check_public_keys(clients)
    return RelayKeys(
        own, own / "ca.crt", own / "relay.crt", own / "relay.key", own / "revoked.crl", clients
    )


def load_operator_keys(folder: Path) -> OperatorFiles:
    """Return the keys in an operator's own `folder`, or the only one's in the folder of all keys.

    Raises
    ------
    UserError
        Something is missing, readable by others, or expired, or there are several operators.
    """
    own = folder.resolve()
    if (own / "operators").is_dir():
        names = [path.name for path in listed(own / "operators") if path.is_dir()]
        if len(names) != 1:
            raise UserError(
                f"{own} has the keys of {len(names)} operators ({', '.join(names)}); give the "
                f"folder of one, such as --keys {own / 'operators' / 'NAME'}"
            )
        own = own / "operators" / names[0]
    if not (own / "operator.crt").exists():
        raise UserError(
            f"{own} has no operator's keys (operator.crt, operator.key); they come with "
            "`sheafalign keys init`, in operators/operator, or `sheafalign keys add-operator`"
        )
    load_certificate(own / "ca.crt")
    load_certificate(own / "operator.crt")
    read_private(own / "operator.key")
    return OperatorFiles(own / "ca.crt", own / "operator.crt", own / "operator.key")


def load_revoked(keys: RelayKeys) -> frozenset[int]:
    """Return the serial numbers of the certificates that the authority has taken back.

    Raises
    ------
    UserError
        The list is damaged, or not signed by the authority.
    """
    if not keys.revoked.exists():  # keys that were made before there were such lists
        return frozenset()
    try:
        found = x509.load_pem_x509_crl(_read(keys.revoked))
    except ValueError:
        raise UserError(
            f"{keys.revoked} is no list of revoked certificates; copy it again"
        ) from None
    key = load_certificate(keys.ca).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not found.is_signature_valid(key):
        raise UserError(
            f"{keys.revoked} was not signed by {keys.ca}; both come from one `keys init`"
        )
    return frozenset(entry.serial_number for entry in found)


def load_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Return a client's public node key.

    Raises
    ------
    UserError
        It is missing, or something else.
    """
    content = _read(path)
    try:
        key = load_ssh_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UserError(f"{path} is no public node key (ecdsa-sha2-nistp384); copy it again")
    return key


def _check_public_keys(clients: Mapping[str, Path]) -> None:
    """Refuse what is no public node key, and one key for two clients."""
    owners: dict[bytes, str] = {}
    for client, path in clients.items():
        key = load_public_key(path)
        if (
            other := owners.setdefault(
                key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), client
            )
        ) != client:
            raise UserError(f"{path} is the key of client '{other}' too; every client has its own")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no {path}; it comes with `sheafalign keys init`") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_private(path: Path) -> bytes:
    """Return the content of a private file; refuse one that others can read."""
    content = _read(path)
    if path.stat().st_mode & 0o077:
        raise UserError(
            f"others can read the private key {path}; make it yours alone: chmod 600 {path}"
        )
    return content


def _node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    content = read_private(path)
    try:
        key = load_ssh_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UserError(f"{path} is no ECDSA private key in OpenSSH form; copy it again")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Return a certificate that holds now; `UserError` says what is wrong with it."""
    content = _read(path)
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError:
        raise UserError(f"{path} is no certificate; copy it again") from None
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        raise UserError(
            f"the certificate {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; "
            "see `sheafalign keys renew`"
        )
    if certificate.not_valid_before_utc > now:
        raise UserError(
            f"the certificate {path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} on; "
            "is the clock right?"
        )
    return certificate


def expiry_warning(path: Path) -> str | None:
    """Return that a certificate will expire soon; None if it will not."""
    until = load_certificate(path).not_valid_after_utc
    left = (until - datetime.now(UTC)).days
    if left >= SOON_DAYS:
        return None
    return (
        f"the certificate {path} expires in {left} days, on {until:%Y-%m-%d}; "
        "see `sheafalign keys renew`"
    )
