"""Members join and leave an existing deployment; certificates are renewed, and looked at."""

import json
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from sheafalign_fl.cli import app
from sheafalign_fl.deploy.changing import add_client, add_operator, members, renew, revoke
from sheafalign_fl.deploy.issuing import init_keys
from sheafalign_fl.deploy.keys import (
    expiry_warning,
    load_client_keys,
    load_operator_keys,
    load_relay_keys,
    load_revoked,
)
from sheafalign_fl.deploy.peers import FILE, Peers, bundle
from sheafalign_fl.errors import UserError

CLIENTS = ["camera", "lidar"]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    init_keys(tmp_path / "keys", CLIENTS, ["relay.lan"])
    return tmp_path / "keys"


def told(keys: Path, client: str, state: Path) -> Path:
    """Let a client hear what the relay hands out; return its state folder."""
    state.mkdir(exist_ok=True)
    own = keys / "clients" / client
    authority = x509.load_pem_x509_certificate((own / "ca.crt").read_bytes())
    Peers(state / FILE, authority).learn(bundle(keys / "relay"))
    return state


def peers_of(keys: Path, client: str, state: Path | None = None) -> dict[str, bytes]:
    found = load_client_keys(keys / "clients" / client, client, state).peers
    return {name: key.public_bytes_raw() for name, key in found.items()}


def public(keys: Path, client: str) -> bytes:
    return load_client_keys(keys / "clients" / client).seal.public_key().public_bytes_raw()


def test_a_new_client_and_the_old_ones_know_each_other(keys: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (keys / "clients").rglob("*") if path.is_file()}
    add_client(keys, "radar", 100)
    assert {path: path.read_bytes() for path in before} == before
    assert set(load_relay_keys(keys).clients) == {*CLIENTS, "radar"}
    assert peers_of(keys, "radar") == {name: public(keys, name) for name in CLIENTS}
    assert set(peers_of(keys, "lidar")) == {"camera"}
    state = told(keys, "lidar", tmp_path / "lidar")
    assert peers_of(keys, "lidar", state) == {
        name: public(keys, name) for name in ("camera", "radar")
    }


def test_a_folder_of_the_time_before_takes_members_too(keys: Path, tmp_path: Path) -> None:
    shutil.rmtree(keys / "relay" / "peers")
    shutil.rmtree(keys / "operators")
    (keys / "relay" / "revoked.crl").unlink()
    assert load_revoked(load_relay_keys(keys)) == frozenset()
    told(keys, "camera", tmp_path / "camera")
    add_operator(keys, "ann", 10)
    add_client(keys, "radar", 100)
    assert load_operator_keys(keys).certificate.parent.name == "ann"
    assert peers_of(keys, "radar") == {name: public(keys, name) for name in CLIENTS}


def test_a_revoked_client_is_no_peer_any_more_and_an_old_list_does_not_bring_it_back(
    keys: Path, tmp_path: Path
) -> None:
    add_client(keys, "radar", 100)
    old = bundle(keys / "relay")
    state = told(keys, "lidar", tmp_path / "lidar")
    revoke(keys, "radar")
    revoke(keys, "camera")
    assert set(load_relay_keys(keys).clients) == {"lidar"}
    assert len(load_revoked(load_relay_keys(keys))) == 2
    told(keys, "lidar", state)
    authority = x509.load_pem_x509_certificate((keys / "ca" / "ca.crt").read_bytes())
    Peers(state / FILE, authority).learn(old)
    assert peers_of(keys, "lidar", state) == {}
    assert not (keys / "clients" / "radar").exists()


def test_what_another_authority_has_signed_is_not_believed(keys: Path, tmp_path: Path) -> None:
    init_keys(tmp_path / "other", [*CLIENTS, "radar"], [])
    state = told(keys, "lidar", tmp_path / "lidar")
    authority = x509.load_pem_x509_certificate((keys / "ca" / "ca.crt").read_bytes())
    before = (state / FILE).read_bytes()
    mixed = json.loads(bundle(keys / "relay"))
    mixed["peers"] += json.loads(bundle(tmp_path / "other" / "relay"))["peers"]
    wrong = [bundle(tmp_path / "other" / "relay"), json.dumps(mixed).encode(), b"{", b"[]"]
    wrong += [b'{"peers": [1], "revoked": null}', b"[" * 100_000]
    for content in wrong:
        with pytest.raises(UserError, match="not believed"):
            Peers(state / FILE, authority).learn(content)
    assert (state / FILE).read_bytes() == before


def test_the_relay_s_and_operators_certificates_are_no_client_s(keys: Path, tmp_path: Path) -> None:
    """All are of one authority; only a client's names a client."""
    state = told(keys, "lidar", tmp_path / "lidar")
    given = json.loads(bundle(keys / "relay"))
    given["peers"] = [
        path.read_text()
        for path in (keys / "relay/relay.crt", keys / "operators/operator/operator.crt")
    ]
    authority = x509.load_pem_x509_certificate((keys / "ca" / "ca.crt").read_bytes())
    Peers(state / FILE, authority).learn(json.dumps(given).encode())
    assert set(peers_of(keys, "lidar", state)) == {"camera"}


def test_renewal_moves_the_date_and_nothing_else(keys: Path) -> None:
    for name in ("relay", "operator", "camera"):
        path = renew(keys, name, 10)
        assert expiry_warning(path) is not None
        old = x509.load_pem_x509_certificate(path.read_bytes())
        renewed = x509.load_pem_x509_certificate(renew(keys, name, 400).read_bytes())
        assert expiry_warning(path) is None
        assert renewed.public_key() == old.public_key()
        assert renewed.subject == old.subject
        assert [each.value for each in renewed.extensions] == [
            each.value for each in old.extensions
        ]
        assert (renewed.not_valid_after_utc - old.not_valid_after_utc).days == 390
    load_relay_keys(keys)
    load_operator_keys(keys)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["add-client", "{keys}", "camera"], "exists already"),
        (["add-client", "{keys}", "a/b"], "cannot name a client"),
        (["add-operator", "{keys}", "../up"], "cannot name an operator"),
        (["add-operator", "{keys}", "operator"], "exists already"),
        (["revoke", "{keys}", "nobody"], "names nobody"),
        (["revoke", "{keys}", "../relay/relay"], "names nobody"),
        (["revoke", "{keys}", "relay"], "cannot be revoked"),
        (["renew", "{keys}", "nobody"], "names nobody"),
        (["list", "{tmp}"], "there is no"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], line: str, keys: Path, tmp_path: Path) -> None:
    given = [word.format(keys=keys, tmp=tmp_path) for word in words]
    result = CliRunner().invoke(app, ["keys", *given])
    assert isinstance(result.exception, UserError)
    assert line in str(result.exception)


def test_list_shows_everybody_and_warns(keys: Path) -> None:
    add_operator(keys, "ann", 5)
    revoke(keys, "operator")
    kinds = {(each.name, each.kind) for each in members(keys)}
    assert kinds == {
        ("ca", "authority"), ("relay", "relay"), ("ann", "operator"), ("operator", "revoked"),
        ("camera", "client"), ("lidar", "client"),
    }  # fmt: skip
    shown = CliRunner().invoke(app, ["keys", "list", str(keys)])
    assert shown.exit_code == 0
    assert "warning: ann expires soon" in " ".join(shown.output.split())
    assert "warning: operator" not in shown.output
