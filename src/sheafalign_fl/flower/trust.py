"""Why a relay is not trusted, in a user's words, and what it is seen to be without trusting it."""

import ssl
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from cryptography import x509
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

from sheafalign_fl.errors import UserError
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.proxies import go_direct, proxy_told

MOST_AHEAD = float(SYSTEM_TIME_TOLERANCE)
"""Seconds that a node's clock may be ahead of its relay's; Flower refuses what it signs
otherwise."""
MOST_BEHIND = float(SYSTEM_TIME_TOLERANCE + TIMESTAMP_TOLERANCE)
_SECONDS = 5.0
# OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""What OpenSSL says of an answer in plain text."""


@dataclass(frozen=True)
class Seen:
    """What a relay is seen to be."""

    trouble: str = ""
    """Why it cannot be used, with what to do; empty if it can."""
    names: tuple[str, ...] = ()
    """Names and addresses in its certificate."""
    ahead: float | None = None
    """Seconds that this machine's clock is ahead of its own; None: it does not say."""


def why_not(error: BaseException, address: str) -> str | None:
    """Return what is wrong with the TLS of the relay at `address`, and its cure; None: not TLS."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the relay at {address} is not to be trusted: {_verdict(cause)}"
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            return (
                f"what answers at {address} does not speak TLS; a relay that was started with "
                "--insecure takes nodes and operators with --insecure only"
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _verdict(error: ssl.SSLCertVerificationError) -> str:
    told, code = error.verify_message, error.verify_code
    if code == _NOT_YET_VALID:
        return f"{told}; is this machine's clock right? It says {datetime.now(UTC):%Y-%m-%d %H:%M}"
    if code == _EXPIRED:
        return f"{told}; see `sheafalign keys renew`, or set this machine's clock"
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        return f"{told}; use a name that `keys init --host` was given (`sheafalign doctor` shows)"
    return (
        f"{told}; its certificate has to come from the same `sheafalign keys init` as this "
        "machine's ca.crt"
    )


def look(address: Address, ca: Path | None) -> Seen:
    """Return what the relay at `address` is seen to be; in plain HTTP without the authority's `ca`.

    A relay that is not trusted is looked at again without trust, for its names and its clock.
    """
    go_direct()
    if ca is None:
        return _ask(f"http://{address}/", address, ssl.create_default_context())
    try:
        trusting = ssl.create_default_context(cafile=str(ca))
    except OSError as error:
        raise UserError(f"{ca} is no certificate of an authority: {error}") from None
    seen = _ask(f"https://{address}/", address, trusting)
    if seen.names or not seen.trouble:
        return seen
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    return replace(_ask(f"https://{address}/", address, blind), trouble=seen.trouble)


def _ask(url: str, address: Address, verify: ssl.SSLContext) -> Seen:
    begun = time.time()
    try:
        with (
            httpx.Client(verify=verify, timeout=_SECONDS) as client,
            client.stream("GET", url) as response,
        ):
            link = response.extensions["network_stream"].get_extra_info("ssl_object")
            shown = link.getpeercert(True) if link is not None else None
            ahead = _ahead(response.headers.get("date"), begun)
    except httpx.HTTPError as error:
        if (told := why_not(error, str(address))) is None:
            proxy = proxy_told(address.host, secure=url.startswith("https"))
            said = str(error) or type(error).__name__
            told = f"the relay at {address} cannot be reached: {said}{proxy}"
        return Seen(told)
    return Seen("", () if shown is None else names_in(shown), ahead)


def _ahead(date: str | None, begun: float) -> float | None:
    """Return how far this machine's clock is ahead of a Date header, which counts whole seconds."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None
    if begun < theirs:
        return begun - theirs
    return max(0.0, begun - theirs - 1.0)


def names_in(certificate: bytes) -> tuple[str, ...]:
    """Return the names and addresses in a certificate (DER)."""
    try:
        found = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (x509.ExtensionNotFound, ValueError):
        return ()
    kinds = (x509.DNSName, x509.IPAddress)
    return tuple(str(name.value) for name in found.value if isinstance(name, kinds))
