"""Where a relay is: names and addresses of IPv4 and IPv6, as people write them."""

import ipaddress
import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheafalign_fl.errors import UserError
from sheafalign_fl.flower.address import Address, parse_host

ports = st.integers(1, 65535)


@given(st.ip_addresses(v=6), ports)
def test_ipv6_is_written_in_brackets_and_read_back(host: ipaddress.IPv6Address, port: int) -> None:
    text = f"[{host}]:{port}"
    assert Address.parse(text) == Address(str(host), port)
    assert str(Address.parse(text)) == text


@given(st.ip_addresses(v=4).map(str) | st.sampled_from(["relay.lan", "localhost", "a-b"]), ports)
def test_other_hosts_are_written_without(host: str, port: int) -> None:
    assert str(Address.parse(f"{host}:{port}")) == f"{host}:{port}"
    assert Address.parse(f"{host}:{port}") == Address(host, port)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused_in_one_line(text: str) -> None:
    with suppress(UserError):
        found = Address.parse(text)
        assert Address.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("::1", "put an address of IPv6 in brackets and add the port: [::1]:9092"),
        ("::1:9092", "put an address of IPv6 in brackets"),
        ("fe80::1:2:3:4:5:6:7:9092", "is no address of IPv6"),
        ("relay.lan", "write it as HOST:PORT"),
        ("relay.lan:", "write it as HOST:PORT"),
        (":9092", "give a name or an address"),
        ("relay.lan:0", "write it as HOST:PORT"),
        ("relay.lan:65536", "write it as HOST:PORT"),
        ("relay.lan:٣", "write it as HOST:PORT"),
        ("http://relay.lan:9092", "leave out the scheme: relay.lan:9092"),
        ("[relay.lan]:9092", "give a name or an address"),
        ("[::1:9092", "give a name or an address"),
        ("relay lan:9092", "give a name or an address"),
    ],
)
def test_what_is_no_address_is_told_how_to_write_one(text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        Address.parse(text)
    assert line in str(caught.value)
    assert str(caught.value).startswith("--relay ")


@pytest.mark.parametrize(
    ("text", "host"), [("::1", "::1"), ("[::1]", "::1"), ("10.0.0.1", "10.0.0.1"), ("a.b", "a.b")]
)
def test_a_host_alone_may_stand_with_or_without_brackets(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("text", ["", "[]", "10.0.0.1:9092", "[a]", "a b", "::zz"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--host"):
        parse_host(text)


@pytest.mark.parametrize(
    ("host", "local"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.1", "10.0.0.1")]
)
def test_what_listens_everywhere_is_reached_on_this_machine(host: str, local: str) -> None:
    assert Address(host, 1).reachable() == Address(local, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_port_is_free_or_taken(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"this machine cannot listen on {host}: {error}")
    with server:
        taken = Address(host, server.getsockname()[1])
        assert taken.answers()
        with pytest.raises(UserError, match="Address already in use; give another --port"):
            taken.check_free()
    taken.check_free()
    assert not taken.answers()


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no-such-host.invalid"])
def test_a_host_that_is_another_machine_is_refused(host: str) -> None:
    with pytest.raises(UserError, match="give another --host"):
        Address(host, 9092).check_free()
