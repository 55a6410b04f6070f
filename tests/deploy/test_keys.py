"""Keys of a deployment: made whole, for their owner's eyes, refused with a reason where wrong."""

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sheafalign_fl.deploy.issuing import init_keys
from sheafalign_fl.deploy.keys import load_client_keys, load_relay_keys
from sheafalign_fl.errors import UserError

CLIENTS = ["camera", "lidar", "thermal sensor"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "keys"
    init_keys(folder, CLIENTS, ["relay.example", "10.0.0.1"])
    return folder


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "keys"))


def test_private_keys_are_for_their_owner_alone(made: Path) -> None:
    private = [path for path in made.rglob("*") if path.name.endswith(".key")]
    assert len(private) == 3 + 2 * len(CLIENTS)  # the authority, the relay, an operator
    assert {oct(path.stat().st_mode & 0o777) for path in private} == {"0o600"}
    assert {
        oct(path.stat().st_mode & 0o777) for path in [made, *made.rglob("*")] if path.is_dir()
    } == {"0o700"}
    assert (made / ".gitignore").read_text() == "*\n"


def test_a_client_has_its_own_secrets_and_nobody_else_s(made: Path) -> None:
    secrets = {path: path.read_bytes() for path in made.rglob("*.key")}
    for client in CLIENTS:
        own = made / "clients" / client
        assert {path.name for path in own.iterdir()} == {
            "ca.crt",
            "node.key",
            "node.pub",
            "seal.key",
            "peers.json",
        }
        others = {content for path, content in secrets.items() if path.parent != own}
        assert not others & {path.read_bytes() for path in own.iterdir()}
    assert not {path.name for path in (made / "relay").rglob("*")} & {
        "ca.key",
        "seal.key",
        "node.key",
    }


def test_peers_are_pinned_by_the_keys_that_they_have(made: Path) -> None:
    loaded = {client: load_client_keys(made, client) for client in CLIENTS}
    for client, own in loaded.items():
        assert set(own.peers) == set(CLIENTS) - {client}
        for peer, public in own.peers.items():
            assert public.public_bytes_raw() == loaded[peer].seal.public_key().public_bytes_raw()
        public_key = (
            own.load_node_key().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        )
        assert load_relay_keys(made).clients[client].read_bytes().strip() == public_key
    assert load_client_keys(made / "clients" / "lidar").name == "lidar"


def shake_hands(server_keys: Path, ca: Path, host: str) -> None:
    """Do a TLS handshake with a server that has the relay's keys, on the loopback address."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(server_keys / "relay.crt", server_keys / "relay.key")
    client = ssl.create_default_context(cafile=str(ca))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            link, _ = listening.accept()
            try:
                with server.wrap_socket(link, server_side=True) as tls:
                    tls.recv(1)
            except OSError:
                link.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with (
            socket.create_connection(listening.getsockname()) as link,
            client.wrap_socket(link, server_hostname=host) as tls,
        ):
            tls.sendall(b"x")
        thread.join(5)


@pytest.mark.parametrize("host", ["relay.example", "10.0.0.1", "localhost", "127.0.0.1"])
def test_the_relay_is_trusted_under_its_names(made: Path, host: str) -> None:
    shake_hands(made / "relay", made / "clients" / "lidar" / "ca.crt", host)


def test_another_relay_and_another_name_are_not_trusted(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(made / "relay", made / "ca" / "ca.crt", "elsewhere.example")
    init_keys(tmp_path / "other", CLIENTS, [])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path / "other" / "relay", made / "ca" / "ca.crt", "localhost")


def _swap(name: str, source: str) -> Callable[[Path], object]:
    return lambda keys: shutil.copy(keys / source, keys / name) and None


def _other_relay_key(keys: Path) -> None:
    init_keys(keys / "new", CLIENTS, [])
    shutil.copy(keys / "new" / "relay" / "relay.key", keys / "relay" / "relay.key")


def _other_authority(keys: Path) -> None:
    init_keys(keys / "new", CLIENTS, [])
    shutil.copy(keys / "new" / "relay" / "ca.crt", keys / "relay" / "ca.crt")


def _no_clients(keys: Path) -> None:
    shutil.rmtree(keys / "relay" / "clients")


RELAY: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda keys: (keys / "relay" / "relay.key").unlink(), "there is no .*relay.key"),
    "readable by all": (
        lambda keys: (keys / "relay" / "relay.key").chmod(0o644),
        "chmod 600 .*relay.key",
    ),
    "no certificate": (
        lambda keys: (keys / "relay" / "relay.crt").write_text("hello") and None,
        "is no certificate",
    ),
    "no key": (
        lambda keys: (keys / "relay" / "relay.key").write_text("hello") and None,
        "is no private key",
    ),
    "another key": (_other_relay_key, "does not belong to"),
    "another authority": (_other_authority, "was not signed by"),
    "no clients": (_no_clients, "no client's public key"),
    "no public key": (
        lambda keys: (keys / "relay/clients/lidar.pub").write_text("x"),
        "is no public node key",
    ),
    "one key for two": (
        _swap("relay/clients/lidar.pub", "relay/clients/camera.pub"),
        "is the key of client 'camera'",
    ),
}


@pytest.mark.parametrize("wrong", RELAY)
def test_wrong_keys_of_a_relay_are_named(keys: Path, wrong: str) -> None:
    spoil, message = RELAY[wrong]
    spoil(keys)
    with pytest.raises(UserError, match=message):
        load_relay_keys(keys)


def _peers(change: Callable[[dict[str, object]], None]) -> Callable[[Path], object]:
    def spoil(keys: Path) -> None:
        path = keys / "clients" / "lidar" / "peers.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def _itself_a_peer(keys: Path) -> None:
    theirs = json.loads((keys / "clients" / "camera" / "peers.json").read_text())["peers"]
    _peers(lambda content: content.update(peers=theirs))(keys)


def _one_key_for_two(keys: Path) -> None:
    theirs = json.loads((keys / "clients" / "lidar" / "peers.json").read_text())["peers"]
    _peers(lambda content: content.update(peers=dict.fromkeys(theirs, theirs["camera"])))(keys)


CLIENT: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (
        lambda keys: (keys / "clients" / "lidar" / "peers.json").unlink(),
        "there is no .*peers.json",
    ),
    "node key readable by all": (
        lambda keys: (keys / "clients" / "lidar" / "node.key").chmod(0o640), "chmod 600 .*node.key",
    ),
    "seal key readable by all": (
        lambda keys: (keys / "clients" / "lidar" / "seal.key").chmod(0o604), "chmod 600 .*seal.key",
    ),
    "seal key of another kind": (
        _swap("clients/lidar/seal.key", "relay/relay.key"), "no X25519 private key",
    ),
    "node key of another kind": (
        _swap("clients/lidar/node.key", "relay/relay.key"), "no ECDSA private key",
    ),
    "another's": (
        _swap("clients/lidar/peers.json", "clients/camera/peers.json"), "those of client 'camera'",
    ),
    "peers damaged": (
        lambda keys: (keys / "clients" / "lidar" / "peers.json").write_text("{") and None,
        "is damaged",
    ),
    "peer's key damaged": (
        _peers(lambda content: content.update(peers={"camera": "AAAA"})), "is damaged",
    ),
    "itself a peer": (_itself_a_peer, "is damaged"),
    "one key for two": (_one_key_for_two, "is damaged"),
    "no peers": (_peers(lambda content: content.update(peers={})), "is damaged"),
    "no name": (_peers(lambda content: content.update(name=None)), "is damaged"),
    "peers no mapping": (_peers(lambda content: content.update(peers=["camera"])), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", CLIENT)
def test_wrong_keys_of_a_client_are_named(keys: Path, wrong: str) -> None:
    spoil, message = CLIENT[wrong]
    spoil(keys)
    with pytest.raises(UserError, match=message):
        load_client_keys(keys, "lidar")


def test_an_expired_certificate_is_named_with_its_date(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys", CLIENTS, [], days=0)
    ends = x509.load_pem_x509_certificate(
        (tmp_path / "keys" / "relay" / "relay.crt").read_bytes()
    ).not_valid_after_utc
    assert ends < datetime.now(UTC)
    with pytest.raises(UserError, match=f"expired on {ends:%Y-%m-%d}"):
        load_relay_keys(tmp_path / "keys")


@pytest.mark.parametrize(
    ("clients", "hosts", "message"),
    [
        (["a"], [], "two clients at least"),
        (["a", "a"], [], "named twice"),
        (["a", "../b"], [], "cannot name a client"),
        (["a", "relay"], [], "cannot name a client"),
        (["a", "b"], ["relay:9092"], "no host name"),
        (["a", "b"], ["-x"], "no host name"),
        (["a", "b"], [""], "no host name"),
        (["a", "b"], ["host\n"], "no host name"),
        (["a", "b"], ["300.1.1.1"], "no host name"),
        (["a", "b"], ["fe80::1%eth0"], "no host name"),
        (["a", "b"], [".".join(["a" * 60] * 5)], "no host name"),
    ],
)
def test_wrong_names_leave_nothing_behind(
    clients: list[str], hosts: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        init_keys(tmp_path / "keys", clients, hosts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("days", [-1, 5000])
def test_a_certificate_does_not_outlive_its_authority(days: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be valid for"):
        init_keys(tmp_path / "keys", CLIENTS, [], days=days)


def test_a_folder_may_be_the_current_one_or_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "here")
    for folder in (Path(), tmp_path / "link"):
        init_keys(folder, CLIENTS, [])
    assert (
        load_relay_keys(tmp_path / "here").clients.keys()
        == load_relay_keys(tmp_path / "there").clients.keys()
    )


def test_keys_are_never_overwritten(keys: Path) -> None:
    before = (keys / "ca" / "ca.key").read_bytes()
    with pytest.raises(UserError, match="never overwritten"):
        init_keys(keys, CLIENTS, [])
    assert (keys / "ca" / "ca.key").read_bytes() == before


def test_interrupted_making_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> ec.EllipticCurvePrivateKey:
        raise KeyboardInterrupt

    monkeypatch.setattr("sheafalign_fl.deploy.issuing.Authority.sign_relay", broken)
    with pytest.raises(KeyboardInterrupt):
        init_keys(tmp_path / "keys", CLIENTS, [])
    assert not list(tmp_path.iterdir())
