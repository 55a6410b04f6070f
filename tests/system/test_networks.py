"""Networks as machines have them: proxies in the environment, IPv6."""

import os
import socket
import threading
from pathlib import Path

import pytest
import yaml

from sheafalign_fl.errors import RunError
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.control import Control
from sheafalign_fl.flower.fleet import FleetConnection, RelayUnreachableError
from sheafalign_fl.flower.proxies import direct_environment, go_direct, proxy_told
from tests.system.command import sheafalign
from tests.system.deployment import deployment

DEAD = "http://user:secret@127.0.0.1:9"
"""A proxy that nobody is: whatever asks it fails."""
TOY = {
    "data": {"source": "tests.toy:source"},
    "clients": {"m0": {"dim": 8}, "m1": {"dim": 8}},
    "graph": {"dim": 8},
    "training": {"exchanges": 2, "batch_size": 32},
    "evaluation": {"every": 0, "metrics": ["retrieval"]},
}


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name proxies as machines in companies and universities do."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, DEAD)
    monkeypatch.setenv("all_proxy", "socks://127.0.0.1:9/")
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "example.org, .lan")
    monkeypatch.setenv("NO_PROXY", "")  # so that it is put back, whatever a test does


def test_an_environment_without_proxies_stays_as_it_is() -> None:
    given = {"PATH": "/bin", "no_proxy": "a"}
    assert direct_environment(given) == given


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("http://p:3128", True), ("https://p:3128", True), ("p:3128", True), ("", True),
        ("socks://p:1080", False), ("socks4://p:1080", False), ("ftp://p", False),
    ],
)  # fmt: skip
def test_proxies_that_keep_flower_from_starting_are_left_out(value: str, kept: bool) -> None:
    found = direct_environment({"https_proxy": "http://q", "ALL_PROXY": value})
    assert ("ALL_PROXY" in found) == kept
    assert found["https_proxy"] == "http://q"


def test_what_the_user_spared_is_spared_beside_loopback(
    proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = direct_environment(os.environ, "10.0.0.1")
    for name in ("no_proxy", "NO_PROXY"):
        assert found[name] == "example.org,.lan,localhost,127.0.0.1,::1,10.0.0.1"
    assert direct_environment(found) == found


def test_a_proxy_is_named_without_its_password(proxies: None) -> None:
    told = proxy_told("relay.example.com", secure=True)
    assert "http://127.0.0.1:9 of https_proxy" in told
    assert "add relay.example.com to no_proxy" in told
    assert "secret" not in told
    for spared in ("::1", "localhost", "127.0.0.1", "example.org", "relay.lan"):
        assert proxy_told(spared, secure=True) == "", spared


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_node_asks_no_proxy_for_this_machine(host: str, proxies: None) -> None:
    """It meets what listens there, which hangs up, and not the proxy, which would be refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"this machine cannot listen on {host}: {error}")
    with server:
        server.settimeout(20)
        address = Address(host, server.getsockname()[1])
        connection = FleetConnection(str(address), None)
        met: list[bool] = []

        def hang_up() -> None:
            with server.accept()[0]:
                met.append(True)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(RelayUnreachableError) as caught:
            connection.activate()
        thread.join()
        connection.close()
    assert met
    assert "proxy" not in str(caught.value)


def test_a_node_names_the_proxy_that_failed(proxies: None) -> None:
    connection = FleetConnection("relay.example.com:9092", None)
    with pytest.raises(RelayUnreachableError, match=r"through the proxy http://127\.0\.0\.1:9"):
        connection.activate()
    connection.close()


def test_an_operator_is_named_the_proxy_that_failed(proxies: None) -> None:
    control = Control.at("relay.example.com:9092", None)
    with pytest.raises(RunError, match=r"through the proxy http://127\.0\.0\.1:9 of http_proxy"):
        control.runs()
    control.close()


def test_going_direct_changes_nothing_twice(proxies: None) -> None:
    go_direct()
    before = dict(os.environ)
    assert "all_proxy" not in before
    go_direct()
    assert dict(os.environ) == before


@pytest.mark.slow
def test_the_default_engine_runs_where_proxies_are_named(proxies: None, tmp_path: Path) -> None:
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump(TOY))
    done = sheafalign("run", str(config), "--out", str(tmp_path / "run"), "--quiet")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("secure", [True, False])
def test_a_deployment_over_ipv6_where_proxies_are_named(
    secure: bool, proxies: None, tmp_path: Path
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with deployment(tmp_path, ["m0", "m1"], secure=secure, host="::1") as deployed:
        assert deployed.address == f"[::1]:{deployed.port}"
        deployed.relay()
        assert f"relay at {deployed.address} is ready" in deployed.printed("relay")
        deployed.nodes()
        folder = deployed.run(dict(TOY))
        assert deployed.wait("run") == 0, deployed.printed("run")
        assert folder.status()["state"] == "completed"
