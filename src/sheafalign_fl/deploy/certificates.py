"""Certificates of a deployment: what its authority signs, and what it takes back.

An operator's certificate says so in its subject (organizational unit) and is good for TLS clients
alone; the relay's is good for TLS servers alone. So neither passes for the other.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
RELAY_DAYS = 825
OPERATOR_DAYS = 825
CLIENT_DAYS = 3650
OPERATOR = "operator"
"""Organizational unit of an operator's certificate."""
CLIENT = "client"
"""Organizational unit of the certificate of a client's sealing key."""
_CLOCKS = timedelta(hours=1)
"""Clocks of small machines are seldom right."""


def authority_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Return the certificate that an authority signs for itself."""
    name = _name("SheafAlign-FL certificate authority")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


class Authority:
    """Signs in the name of a deployment."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        """Sign with `key`, to which `certificate` belongs."""
        self._key = key
        self.certificate = certificate

    @classmethod
    def new(cls) -> "Authority":
        """Return an authority with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, authority_certificate(key))

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """Its private key."""
        return self._key

    def sign_relay(
        self, key: ec.EllipticCurvePublicKey, hosts: Sequence[str], days: int
    ) -> x509.Certificate:
        """Return a certificate of a relay at these hosts, beside this machine's own."""
        names: list[x509.GeneralName] = []
        for host in dict.fromkeys(["localhost", "127.0.0.1", "::1", *hosts]):
            address = address_of(host)
            names.append(x509.DNSName(host) if address is None else x509.IPAddress(address))
        builder = self._leaf(_name("SheafAlign-FL relay"), key, days)
        return self._signed(
            builder.add_extension(x509.SubjectAlternativeName(names), critical=False),
            ExtendedKeyUsageOID.SERVER_AUTH,
        )

    def sign_operator(
        self, key: ec.EllipticCurvePublicKey, name: str, days: int
    ) -> x509.Certificate:
        """Return a certificate of the operator `name`."""
        return self._signed(
            self._leaf(_name(name, OPERATOR), key, days), ExtendedKeyUsageOID.CLIENT_AUTH
        )

    def sign_client(self, key: X25519PublicKey, name: str, days: int) -> x509.Certificate:
        """Return a certificate that says that the client `name` has this sealing key."""
        # A common name has 64 characters at most, a client's may have more.
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, name),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, CLIENT),
            ]
        )
        return self._leaf(subject, key, days).sign(self._key, SHA256())

    def sign_again(self, old: x509.Certificate, days: int) -> x509.Certificate:
        """Return a certificate that says what `old` says, from now on."""
        key = old.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | X25519PublicKey):
            raise TypeError("this authority signs no such key")
        builder = _builder(old.subject, self.certificate.subject, key, days)
        for extension in old.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        return builder.sign(self._key, SHA256())

    def sign_revocations(self, serials: Sequence[int]) -> x509.CertificateRevocationList:
        """Return the list of the certificates that are taken back, by serial number."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _CLOCKS)
            .next_update(now + timedelta(days=AUTHORITY_DAYS))
        )
        for serial in sorted(set(serials)):
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            )
        return builder.sign(self._key, SHA256())

    def _leaf(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey | X25519PublicKey, days: int
    ) -> x509.CertificateBuilder:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            _builder(name, self.certificate.subject, key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(issuer, critical=False)
        )

    def _signed(
        self, builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier
    ) -> x509.Certificate:
        usage = x509.ExtendedKeyUsage([purpose])
        return builder.add_extension(usage, critical=False).sign(self._key, SHA256())


def operator_name(certificate: x509.Certificate, now: datetime) -> str | None:
    """Return whose operator's certificate this is at the time `now`; None if it is not one.

    Who has signed it is not looked at here.
    """
    subject = certificate.subject
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [unit.value for unit in units] != [OPERATOR] or len(names) != 1:
        return None
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return None
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    return str(names[0].value) if ExtendedKeyUsageOID.CLIENT_AUTH in usage else None


def client_name(certificate: x509.Certificate) -> str | None:
    """Return whose client's certificate this is; None if it is not one."""
    subject = certificate.subject
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    names = subject.get_attributes_for_oid(NameOID.USER_ID)
    if [unit.value for unit in units] != [CLIENT] or len(names) != 1:
        return None
    return str(names[0].value)


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that `host` is; None if it is a name."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _name(common: str, unit: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if unit is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey | X25519PublicKey,
    days: int,
) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - _CLOCKS
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )
