"""Service files for a deployment: systemd units and a compose file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sheafalign_fl.config.reading import write_yaml
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.flower.address import Address
from sheafalign_fl.listing import is_free

_UNIT = """\
[Unit]
Description=SheafAlign-FL {what}
Wants=network-online.target
After=network-online.target

[Service]
User=sheafalign
ExecStart=/opt/sheafalign/bin/sheafalign {command}
Restart=on-failure
RestartSec=2
TimeoutStopSec=30
UMask=0077
StateDirectory=sheafalign
StateDirectoryMode=0700
WorkingDirectory=/var/lib/sheafalign
Environment=HOME=/var/lib/sheafalign
ReadOnlyPaths=-/etc/sheafalign
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=true
ProtectClock=true
ProtectHostname=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectProc=invisible
PrivateTmp=true
PrivateUsers=true
{devices}
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
RemoveIPC=true
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=sched_setaffinity sched_setscheduler setpriority mbind set_mempolicy
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
_NO_DEVICES = "PrivateDevices=true"
_SENSOR_DEVICES = "# A node may have a sensor or an accelerator: PrivateDevices is not set."
_NODE = (
    "node {client} --relay {relay} --keys /etc/sheafalign/{client} "
    "--data /srv/sheafalign/{client} --state {state}"
)
_RELAY = (
    "relay --keys /etc/sheafalign/relay --host {host} --port {port} "
    "--state {state} --runs {state}/runs"
)
_DOCKERFILE = """\
FROM python:3.11-slim
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY . /src
RUN pip install --no-cache-dir '/src[deploy]' && useradd --uid 1000 sheafalign \\
    && install -d -o sheafalign -m 0700 /state /runs
ENV HOME=/state
USER sheafalign
ENTRYPOINT ["sheafalign"]
"""


_CONFINED: Mapping[str, object] = {
    "restart": "on-failure",
    "read_only": True,
    "tmpfs": ["/tmp"],  # noqa: S108 - inside the container
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}
"""What every container has."""


def render(folder: Path, clients: Sequence[str], relay: Address) -> list[Path]:
    """Write the files of a deployment into the new `folder`; return their paths.

    Parameters
    ----------
    clients
        Names of all clients.
    relay
        Where the clients reach the relay.

    Raises
    ------
    UserError
        The folder exists and is not empty, or a client's name cannot be part of a unit's name.
    """
    if not is_free(folder):
        raise UserError(f"{folder} exists already; give another folder")
    for client in clients:
        if not all(char.isalnum() or char in "._-" for char in client):
            raise UserError(
                f"the client '{client}' cannot name a service; use letters, digits, '.', '_' and "
                "'-'"
            )
    port = str(relay.port)
    everywhere = "::" if ":" in relay.host else "0.0.0.0"  # noqa: S104 - a service, behind its keys
    state = "/var/lib/sheafalign"
    files = {
        "systemd/sheafalign-relay.service": _UNIT.format(
            what="relay",
            devices=_NO_DEVICES,
            command=_RELAY.format(host=everywhere, port=port, state=f"{state}/relay"),
        ),
        "compose.yaml": write_yaml(_compose(clients, port)),
        "Dockerfile": _DOCKERFILE,
    }
    for client in clients:
        command = _NODE.format(client=client, relay=relay, state=f"{state}/{client}")
        files[f"systemd/sheafalign-node-{client}.service"] = _UNIT.format(
            what=f"node {client}", devices=_SENSOR_DEVICES, command=command
        )
    for name, text in files.items():
        write_atomically(folder / name, text.encode(), public=True)
    return [folder / name for name in files]


def _compose(clients: Sequence[str], port: str) -> dict[str, object]:
    """Return a compose file: every client a container with its own keys, data and state only."""
    everywhere = "0.0.0.0"  # noqa: S104 - inside the container's own network
    services: dict[str, object] = {
        "relay": {
            "image": "sheafalign-fl",
            "command": [
                "relay",
                "--keys",
                "/keys",
                "--host",
                everywhere,
                "--port",
                port,
                "--state",
                "/state",
                "--runs",
                "/runs",
            ],
            "volumes": ["./keys/relay:/keys:ro", "relay-state:/state", "./runs:/runs"],
            "ports": [f"{port}:{port}"],
            **_CONFINED,
        }
    }
    for client in clients:
        services[f"node-{client}"] = {
            "image": "sheafalign-fl",
            "command": [
                "node", client, "--relay", f"relay:{port}",
                "--keys", "/keys", "--data", "/data", "--state", "/state",
            ],
            "volumes": [
                f"./keys/clients/{client}:/keys:ro", f"./data/{client}:/data:ro",
                f"{client}-state:/state",
            ],
            "depends_on": ["relay"],
            **_CONFINED,
        }  # fmt: skip
    volumes: dict[str, object] = {
        "relay-state": {},
        **{f"{client}-state": {} for client in clients},
    }
    return {"services": services, "volumes": volumes}
