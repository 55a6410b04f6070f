"""How clients learn the keys of peers that joined after their own keys were made.

The authority signs every client's public sealing key. The relay hands these certificates, and the
list of those that were taken back, to nodes that ask. It can withhold them, but not make one; and a
node that has seen a newer certificate or list never goes back to an older one.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from sheafalign_fl.deploy.certificates import client_name
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.listing import listed

_log = logging.getLogger("sheafalign.node")
MOST_BYTES = 8 * 1024 * 1024
"""Of what a relay hands out: some 8,000 certificates."""
FILE = "peers.json"


def bundle(folder: Path) -> bytes:
    """Return what the relay hands out: JSON of the certificates and the list in `folder`."""
    revoked = folder / "revoked.crl"
    content = {
        "peers": [path.read_text(encoding="ascii") for path in listed(folder, "peers/*.crt")],
        "revoked": revoked.read_text(encoding="ascii") if revoked.is_file() else None,
    }
    return json.dumps(content).encode()


class Peers:
    """What one client has learnt, kept in a file of its state folder."""

    def __init__(self, path: Path, authority: x509.Certificate) -> None:
        """Believe what `authority` has signed, and what the file at `path` says of it."""
        self._path = path
        self._authority = authority
        self._certificates: dict[str, x509.Certificate] = {}
        self._revoked: x509.CertificateRevocationList | None = None
        if path.is_file():
            self._add(path.read_bytes())

    def learn(self, content: bytes) -> None:
        """Take what is new in what a relay hands out, and keep it.

        Raises
        ------
        UserError
            It is damaged, or the authority has not signed it; nothing of it is taken.
        """
        before = self._bytes()
        self._add(content)
        if (after := self._bytes()) != before:
            write_atomically(self._path, after)

    def keys(self, pinned: Mapping[str, X25519PublicKey]) -> dict[str, X25519PublicKey]:
        """Return every peer's key: as pinned, unless another was signed, or it was taken back."""
        keys, now = dict(pinned), datetime.now(UTC)
        for name, certificate in self._certificates.items():
            public = certificate.public_key()
            assert isinstance(public, X25519PublicKey)  # noqa: S101 - checked when it was taken
            revoked = self._revoked is not None and (
                self._revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
            )
            if (
                revoked
                or not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
            ):
                keys.pop(name, None)
            else:
                keys[name] = public
        return keys

    def _add(self, content: bytes) -> None:
        try:
            given = json.loads(content)
            found = [x509.load_pem_x509_certificate(text.encode()) for text in given["peers"]]
            revoked = given["revoked"] and x509.load_pem_x509_crl(given["revoked"].encode())
            for certificate in found:
                certificate.verify_directly_issued_by(self._authority)
            key = self._authority.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey) or (
                revoked and not revoked.is_signature_valid(key)
            ):
                raise ValueError("another authority has signed the list")
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            InvalidSignature,
            RecursionError,
        ) as error:
            raise UserError(
                f"the keys of other clients that the relay hands out are not believed: {error!r}"
            ) from None
        for certificate in found:
            self._take(certificate)
        known = self._revoked
        if revoked and (known is None or revoked.last_update_utc > known.last_update_utc):
            self._revoked = revoked

    def _take(self, certificate: x509.Certificate) -> None:
        """Take a client's certificate, unless a newer one is known."""
        name = client_name(certificate)
        if name is None or not isinstance(certificate.public_key(), X25519PublicKey):
            return
        known = self._certificates.get(name)
        if known is None or certificate.not_valid_before_utc > known.not_valid_before_utc:
            if known is None or known.public_key() != certificate.public_key():
                _log.info("the authority names client '%s'", name)
            self._certificates[name] = certificate

    def _bytes(self) -> bytes:
        pems = [found.public_bytes(Encoding.PEM).decode() for found in self._certificates.values()]
        revoked = (
            None if self._revoked is None else self._revoked.public_bytes(Encoding.PEM).decode()
        )
        return json.dumps({"peers": pems, "revoked": revoked}).encode()
