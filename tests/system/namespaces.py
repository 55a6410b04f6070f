"""Machines that are network namespaces: each's own interface is joined to the relay's by veth."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_ETHERNET, _IP, _TCP = 14, 20, 32
HEADERS = _ETHERNET + _IP + _TCP
"""Bytes of headers of a packet: Ethernet, IPv4, and TCP with time stamps."""


@dataclass(frozen=True)
class Counters:
    """What the kernel counted at one interface."""

    bytes: int
    packets: int


@dataclass(frozen=True)
class Machine:
    """One namespace."""

    name: str
    address: str
    """Its own address on the link to the relay; of the relay: empty."""
    relay_address: str
    interface: str

    def prefix(self) -> list[str]:
        """Return the words before a command that is to run in it."""
        return ["ip", "netns", "exec", self.name]

    def counters(self) -> tuple[Counters, Counters]:
        """Return what the kernel counted up (sent) and down (received)."""
        done = _ip("-n", self.name, "-s", "-j", "link", "show", self.interface)
        stats = json.loads(done)[0]["stats64"]
        return tuple(  # type: ignore[return-value]
            Counters(stats[way]["bytes"], stats[way]["packets"]) for way in ("tx", "rx")
        )

    def shape(self, *words: str) -> str | None:
        """Let `tc netem` delay, lose or throttle what it sends; return why it cannot, or None."""
        done = subprocess.run(
            [*self.prefix(), "tc", "qdisc", "replace", "dev", self.interface,
             "root", "netem", *words],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        return " ".join(done.stderr.split()) or "tc failed" if done.returncode else None


def permitted() -> str | None:
    """Return why namespaces cannot be made here; None if they can."""
    name = f"sfprobe{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "add", "sfp0", "type", "veth", "peer", "name", "sfp1")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces are not permitted here ({error})"
    finally:
        with suppress(OSError, subprocess.CalledProcessError):
            _ip("netns", "del", name)
    return None


def mounts_permitted() -> str | None:
    """Return why a process cannot have mounts of its own here; None if it can."""
    try:
        subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/tmp"],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        return f"mount namespaces are not permitted here ({error})"
    return None


@contextmanager
def machines(clients: Sequence[str]) -> Iterator[tuple[Machine, dict[str, Machine]]]:
    """Yield the relay's namespace and one for each client; they are gone afterwards."""
    tag = f"sf{os.getpid() % 100000}"
    relay = Machine(f"{tag}-relay", "", "", "lo")
    made = [relay.name]
    try:
        _make(relay.name)
        nodes: dict[str, Machine] = {}
        for index, client in enumerate(clients):
            name, near, far = f"{tag}-{index}", f"{tag}n{index}", f"{tag}r{index}"
            made.append(name)
            _make(name)
            _ip(
                "-n",
                relay.name,
                "link",
                "add",
                far,
                "type",
                "veth",
                "peer",
                "name",
                near,
                "netns",
                name,
            )
            own, relays = f"10.99.{index}.2", f"10.99.{index}.1"
            for where, interface, address in ((relay.name, far, relays), (name, near, own)):
                _ip("-n", where, "address", "add", f"{address}/30", "dev", interface)
                _ip("-n", where, "link", "set", interface, "up")
            nodes[client] = Machine(name, own, relays, near)
        yield relay, nodes
    finally:
        for name in made:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)


def _make(name: str) -> None:
    _ip("netns", "add", name)
    for which in ("all", "default"):  # no neighbour discovery: nothing but what the test sends
        subprocess.run(
            ["ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv6.conf.{which}.disable_ipv6=1"],
            check=False, capture_output=True,
        )  # fmt: skip
    _ip("-n", name, "link", "set", "lo", "up")


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
