"""`sheafalign serve`: one client's share as an HTTP service."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sheafalign_fl.cli.use import AllowCode, loaded
from sheafalign_fl.errors import UserError

if TYPE_CHECKING:
    from sheafalign_fl.deploy.share_service import ShareService
    from sheafalign_fl.shares.model import Model

TOKEN = "SHEAFALIGN_TOKEN"  # noqa: S105 - the variable's name
_CONNECTIONS = 512
"""Open ones, most of which wait for nothing; `deploy.bounded` counts requests and bytes."""
_KEPT_SECONDS = 5
_BODIES = 4
"""So many requests of the largest size may wait."""
_HEADER_BYTES = 32 * 1024
_MEBI = 1024 * 1024
_SHORTEST = 16


def serve(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run folder, a folder of shares, or one share.", metavar="RUN",
            show_default=False,
        ),
    ],
    client: Annotated[str, typer.Option(help="Whose share.", metavar="NAME", show_default=False)],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the token that callers show; default: ${TOKEN}."),
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    head: Annotated[
        Path | None, typer.Option(
            help="A head of this client: its folder, as `classify --save` writes it, or the name "
            "that `classify --keep` kept it under."
        ),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="Events of this client to search in.")
    ] = None,
    most: Annotated[
        int, typer.Option(
            "--max-body", help=f"Most MiB of one request; {_BODIES} times that may wait.", min=1,
            max=1024,
        ),
    ] = 16,
    allow: AllowCode = None,
) -> None:  # fmt: skip
    """Answer what one client's share can answer, until told to end."""
    import uvicorn

    from sheafalign_fl.deploy.bounded import Visitor
    from sheafalign_fl.deploy.share_service import share_app
    from sheafalign_fl.shares.head_folder import find_head

    token = _token(token_file)
    _check_open(host, token, certificate, key)
    kept = None if head is None else find_head(run, head)
    service = _service(loaded(run, allow, client), client, kept, gallery, most * _MEBI)
    typer.echo(
        f"client '{client}' is served at http{'s' if certificate else ''}://{host}:{port}"
        + ("" if token else "; whoever is on this machine may ask")
    )
    uvicorn.run(
        share_app(service, token), host=host, port=port, ssl_certfile=certificate,
        ssl_keyfile=key, limit_concurrency=_CONNECTIONS, timeout_keep_alive=_KEPT_SECONDS,
        h11_max_incomplete_event_size=_HEADER_BYTES, proxy_headers=False, server_header=False,
        log_level="warning", http=Visitor, ws="none",
    )  # fmt: skip


def _service(
    model: "Model", client: str, head: Path | None, gallery: Path | None, body_bytes: int
) -> "ShareService":
    from sheafalign_fl.deploy.bounded import Limits
    from sheafalign_fl.deploy.share_service import ShareService
    from sheafalign_fl.shares.files import read_events

    events = None if gallery is None else read_events(gallery).given(client)
    fitted = None if head is None else model.load_head(head)
    limits = Limits(body_bytes, in_flight_bytes=_BODIES * body_bytes)
    return ShareService(model[client], limits, fitted, events)


def _token(file: Path | None) -> str | None:
    """Return what callers have to show, if anything."""
    try:
        token = os.environ.get(TOKEN, "") if file is None else file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if token and (len(token) < _SHORTEST or not token.isascii()):
        raise UserError(f"the token needs {_SHORTEST} ASCII characters or more")
    if file is not None and not token:
        raise UserError(f"{file} holds no token")
    return token or None


def _check_open(host: str, token: str | None, certificate: Path | None, key: Path | None) -> None:
    """Refuse what would let others in, or let others read along."""
    from sheafalign_fl.deploy.members import is_own_host

    if (certificate is None) != (key is None):
        raise UserError("give --certificate and --key together")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise UserError(f"there is no file {path}")
    if (token is None or certificate is None) and not is_own_host(host):
        raise UserError(
            f"--host {host} can be reached from other machines: give a token (--token-file or "
            f"${TOKEN}) and a certificate (--certificate, --key), or listen on 127.0.0.1"
        )
