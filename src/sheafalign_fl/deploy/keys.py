"""Keys and certificates of a deployment.

::

    DIR/
      ca/        ca.crt, ca.key             the certificate authority; stays with whoever made the keys
      relay/     ca.crt, relay.crt, relay.key, clients/NAME.pub
      clients/NAME/                         what NAME's machine needs, and nothing else:
                 ca.crt                     to know the relay by
                 node.key, node.pub         Flower's SuperNode authentication (ECDSA P-384, OpenSSH)
                 seal.key                   sealed edges (X25519)
                 peers.json                 the other clients' public keys for them, pinned
"""

import base64
import ipaddress
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sheafalign_fl.config.schema import is_client_name
from sheafalign_fl.errors import UserError
from sheafalign_fl.listing import is_free, listed, remove_free

RELAY_DAYS = 825
_CA_DAYS = 3650
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_LONGEST_HOST = 253


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
    clients: Mapping[str, Path]
    """Client -> its public node key."""


# ---- making ----------------------------------------------------------------------------------------------------------


def init_keys(
    folder: Path, clients: Sequence[str], hosts: Sequence[str], days: int = RELAY_DAYS
) -> None:
    """Make a certificate authority, the relay's certificate and every client's keys in the new `folder`.

    Parameters
    ----------
    clients
        Names of all clients, as the configuration has them.
    hosts
        Names and addresses under which clients reach the relay; this machine's own are always among them.
    days
        How long the relay's certificate is valid.

    Raises
    ------
    UserError
        The folder exists and is not empty, or a name is wrong.
    """
    _check_names(clients, hosts)
    if not 0 <= days <= _CA_DAYS:
        raise UserError(
            f"the relay's certificate cannot be valid for {days} days; the authority's is for {_CA_DAYS}"
        )
    folder = folder.resolve()
    if not is_free(folder):
        raise UserError(f"{folder} exists already; keys are never overwritten, give another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(
        tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")
    )  # nobody else can read it
    try:
        _write(made / ".gitignore", b"*\n", private=False)
        _make(made, clients, hosts, days)
        remove_free(folder)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


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
        if _address(host) is None and not named:
            raise UserError(f"'{host}' is no host name and no address; give it without a port")


def _make(folder: Path, clients: Sequence[str], hosts: Sequence[str], days: int) -> None:
    authority = ec.generate_private_key(ec.SECP256R1())
    certificate = _authority_certificate(authority)
    root = certificate.public_bytes(Encoding.PEM)
    _write(folder / "ca" / "ca.crt", root, private=False)
    _write(folder / "ca" / "ca.key", _pem(authority), private=True)
    relay = ec.generate_private_key(ec.SECP256R1())
    signed = _relay_certificate(relay, authority, certificate, hosts, days)
    _write(folder / "relay" / "ca.crt", root, private=False)
    _write(folder / "relay" / "relay.crt", signed.public_bytes(Encoding.PEM), private=False)
    _write(folder / "relay" / "relay.key", _pem(relay), private=True)
    seals = {name: X25519PrivateKey.generate() for name in clients}
    for name in clients:
        own = folder / "clients" / name
        node = ec.generate_private_key(ec.SECP384R1())
        public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
        peers = {peer: _text(key.public_key()) for peer, key in seals.items() if peer != name}
        _write(own / "ca.crt", root, private=False)
        private = node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        _write(own / "node.key", private, private=True)
        _write(own / "node.pub", public, private=False)
        _write(own / "seal.key", _pem(seals[name]), private=True)
        _write(
            own / "peers.json",
            json.dumps({"name": name, "peers": peers}, indent=1).encode(),
            private=False,
        )
        _write(folder / "relay" / "clients" / f"{name}.pub", public, private=False)


def _authority_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "SheafAlign-FL certificate authority")]
    )
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def _relay_certificate(
    key: ec.EllipticCurvePrivateKey,
    authority: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate,
    hosts: Sequence[str],
    days: int,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SheafAlign-FL relay")])
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(["localhost", "127.0.0.1", "::1", *hosts]):
        address = _address(host)
        names.append(x509.DNSName(host) if address is None else x509.IPAddress(address))
    return (
        _builder(name, issuer.subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
        .sign(authority, SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - timedelta(hours=1)  # clocks of small machines are seldom right
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _pem(key: ec.EllipticCurvePrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _text(key: X25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()


def _write(path: Path, content: bytes, *, private: bool) -> None:
    for folder in reversed(
        path.parents
    ):  # `parents=True` would give the outer ones the default mode
        folder.mkdir(exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o600 if private else 0o644)


# ---- reading ---------------------------------------------------------------------------------------------------------


def load_client_keys(folder: Path, name: str | None = None) -> ClientKeys:
    """Return the keys in a client's own `folder`, or those of client `name` in the folder of all keys.

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
    seal = _private(own / "seal.key")
    try:
        seal_key = load_pem_private_key(seal, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        seal_key = None
    if not isinstance(seal_key, X25519PrivateKey):
        raise UserError(f"{own / 'seal.key'} is no X25519 private key; copy it again")
    _node_key(own / "node.key")
    _certificate(own / "ca.crt")
    return ClientKeys(owner, own, own / "ca.crt", own / "node.key", seal_key, peers)


def load_relay_keys(folder: Path) -> RelayKeys:
    """Return the keys in the relay's own `folder`, or those of the relay in the folder of all keys.

    Raises
    ------
    UserError
        Something is missing, readable by others, of the wrong kind, or expired.
    """
    own = (folder / "relay" if (folder / "relay").is_dir() else folder).resolve()
    authority, certificate = _certificate(own / "ca.crt"), _certificate(own / "relay.crt")
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise UserError(
            f"{own / 'relay.crt'} was not signed by {own / 'ca.crt'}; both come from one `keys init`"
        ) from None
    try:
        key = load_pem_private_key(_private(own / "relay.key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UserError(f"{own / 'relay.key'} is no private key; copy it again") from None
    if key.public_key() != certificate.public_key():
        raise UserError(
            f"{own / 'relay.key'} does not belong to {own / 'relay.crt'}; take both from one `keys init`"
        )
    clients = {path.stem: path for path in listed(own / "clients", "*.pub")}
    if not clients:
        raise UserError(f"{own / 'clients'} has no client's public key (NAME.pub)")
    _check_public_keys(clients)
    return RelayKeys(own, own / "ca.crt", own / "relay.crt", own / "relay.key", clients)


def _check_public_keys(clients: Mapping[str, Path]) -> None:
    """Refuse what is no public node key, and one key for two clients."""
    owners: dict[bytes, str] = {}
    for client, path in clients.items():
        content = _read(path)
        try:
            key = load_ssh_public_key(content)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP384R1
        ):
            raise UserError(f"{path} is no public node key (ecdsa-sha2-nistp384); copy it again")
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


def _private(path: Path) -> bytes:
    """Return the content of a private file; refuse one that others can read."""
    content = _read(path)
    if path.stat().st_mode & 0o077:
        raise UserError(
            f"others can read the private key {path}; make it yours alone: chmod 600 {path}"
        )
    return content


def _node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    content = _private(path)
    try:
        key = load_ssh_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UserError(f"{path} is no ECDSA private key in OpenSSH form; copy it again")
    return key


def _certificate(path: Path) -> x509.Certificate:
    content = _read(path)
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError:
        raise UserError(f"{path} is no certificate; copy it again") from None
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        raise UserError(
            f"the certificate {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; make new keys"
        )
    if certificate.not_valid_before_utc > now:
        raise UserError(
            f"the certificate {path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} on; is the clock right?"
        )
    return certificate
