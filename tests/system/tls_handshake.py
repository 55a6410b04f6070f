"""Bytes of one TLS handshake: ``python -m tests.system.tls_handshake HOST PORT CA``, as JSON."""

import json
import socket
import ssl
import sys


def handshake_bytes(host: str, port: int, ca: str) -> dict[str, int]:
    """Return the bytes up and down of a handshake there, its session tickets included."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    counts = {"up": 0, "down": 0}
    with socket.create_connection((host, port), timeout=5) as link:
        done = False
        while True:
            try:
                if done:
                    tls.read(1)
                else:
                    tls.do_handshake()
                    done = True
            except ssl.SSLWantReadError:
                pass
            if data := outgoing.read():
                counts["up"] += len(data)
                link.sendall(data)
            link.settimeout(1.0 if done else 5.0)
            try:
                received = link.recv(65536)
            except TimeoutError:
                return counts
            if not received:
                return counts
            counts["down"] += len(received)
            incoming.write(received)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(handshake_bytes(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
