"""One client's share as an HTTP service: it embeds, compares, stands in, searches and classifies.

Requests are JSON. What they hold is bounded before it is read (`Limits`), whoever asks shows a
token, and nothing is kept between two requests but the gallery that the service was started with.
"""

import hmac
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from sheafalign_fl.errors import DataError, SheafAlignError
from sheafalign_fl.extras import has
from sheafalign_fl.flower.gate import Allowance, TooLargeError, read_body, replayed
from sheafalign_fl.shares.comparison import Comparison
from sheafalign_fl.shares.heads import Head
from sheafalign_fl.shares.search import Gallery
from sheafalign_fl.shares.share import Share
from sheafalign_fl.version import __version__

OPEN = ("/health", "/docs", "/openapi.json", "/assets/")
"""What is answered without a token: nothing of the share."""
_PAUSE_SECONDS = 10.0
_MEBI = 1024 * 1024
_DEEPEST = 16
_OPENING, _CLOSING = np.frombuffer(b"[{", np.uint8), np.frombuffer(b"]}", np.uint8)


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    body_bytes: int = 16 * _MEBI
    events: int = 100_000
    neighbours: int = 1000
    """Most nearest events of a search."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Events(_Body):
    """Raw events of the client's own sensor."""

    x: list[Any] = Field(description="(N, ...): events in the sensor's own units")


class Received(_Body):
    """What neighbours sent."""

    received: dict[str, list[Any]] = Field(description="neighbour -> z for this client, (N, d_e)")
    run_id: str = Field("", description="of the run that they were made in, where it is known")


class Query(_Body):
    """A neighbour's question to the gallery."""

    z: list[Any] = Field(description="the neighbour's z for this client, (Q, d_e)")
    k: int = Field(10, ge=1, description="how many to find for each")
    gallery: list[Any] | None = Field(
        None, description="raw events of this client, (N, ...); default: the service's own"
    )


class Asked(_Body):
    """Events of the own sensor, or, where it is broken, what neighbours sent."""

    x: list[Any] | None = None
    received: dict[str, list[Any]] | None = None


class ShareService:
    """What the service does, without HTTP. One computation at a time."""

    def __init__(
        self,
        share: Share,
        limits: Limits,
        head: Head | None = None,
        gallery: NDArray[np.floating] | None = None,
    ) -> None:
        """Serve `share`, with a head and raw events (N, ...) to search in, where they are given.

        Raises
        ------
        DataError
            The gallery does not fit the share.
        """
        self.share, self.limits, self.head = share, limits, head
        self._lock = threading.Lock()
        self._own = None if gallery is None else share.embed(gallery)

    def embed(self, asked: Events) -> dict[str, Any]:
        """Return h of raw events."""
        with self._lock:
            return {"embedding": self.share.embed(self._array(asked.x)).tolist()}

    def compare(self, neighbour: str, asked: Events) -> dict[str, Any]:
        """Return z for a neighbour."""
        self._known(neighbour)
        with self._lock:
            z = self.share.compare(neighbour, self._array(asked.x))
        return {"z": np.asarray(z).tolist(), "run_id": self.share.facts.run_id}

    def impute(self, asked: Received) -> dict[str, Any]:
        """Return h as the neighbours know it, and how far off it is."""
        with self._lock:
            made = self._imputed(asked.received, asked.run_id)
        return {
            "embedding": made.values.tolist(),
            "error": [None if np.isnan(error) else float(error) for error in made.error],
            "floor": made.floor,
            "present": made.present,
        }

    def search(self, neighbour: str, asked: Query) -> dict[str, Any]:
        """Return the client's own events that are nearest to a neighbour's."""
        self._known(neighbour)
        if asked.k > self.limits.neighbours:
            raise HTTPException(413, f"k is {asked.k}; at most {self.limits.neighbours}")
        with self._lock:
            z = self.share.received(neighbour, self._array(asked.z))
            if asked.gallery is not None:
                own = self.share.embed(self._array(asked.gallery))
            elif self._own is not None:
                own = self._own
            else:
                raise HTTPException(400, "this service has no gallery of its own; send `gallery`")
            among = self.share.refined(neighbour, self.share.restrict(neighbour, own), own=True)
            z = self.share.refined(neighbour, z, own=False)
            found = Gallery(among).search(z, asked.k)
        scores = [[None if np.isnan(score) else score for score in row] for row in found.scores]
        return {"rows": found.rows.tolist(), "scores": scores}

    def classify(self, asked: Asked) -> dict[str, Any]:
        """Return what the head says, of events or of what neighbours sent instead."""
        if self.head is None:
            raise HTTPException(404, "this service was started without a head")
        if (asked.x is None) == (asked.received is None):
            raise HTTPException(422, "give x, or received where the sensor is broken")
        with self._lock:
            if asked.x is not None:
                made = self.head.predict({self.share.client: self._array(asked.x)})
            else:
                stand_in = self._imputed(asked.received or {}, "").values
                made = self.head.of_embeddings({self.share.client: stand_in})
        answer: dict[str, Any] = {
            "labels": made.labels.tolist(),
            "stood_in_for": asked.x is None,
        }
        if made.probabilities is not None:
            answer |= {
                "classes": made.classes.tolist(), "probabilities": made.probabilities.tolist()
            }  # fmt: skip
        return answer

    def _imputed(self, received: Mapping[str, list[Any]], run_id: str) -> Any:
        share = self.share
        if share.imputation is None:
            raise DataError(f"the share of client '{share.client}' has no imputation")
        z = {}
        for neighbour, values in received.items():
            self._known(neighbour)
            given = Comparison.of(self._array(values), neighbour, share.client, run_id)
            z[neighbour] = share.received(neighbour, given)
        if not z or len({len(values) for values in z.values()}) != 1:
            raise DataError("give z of one neighbour or more, of the same events each")
        return share.imputation.ridge(z)

    def _known(self, neighbour: str) -> None:
        try:
            self.share.space(neighbour)
        except DataError as error:
            raise HTTPException(404, str(error)) from None

    def _array(self, values: list[Any]) -> NDArray[np.float64]:
        if len(values) > self.limits.events:
            raise HTTPException(413, f"{len(values)} events; at most {self.limits.events}")
        try:
            return np.array(values, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise DataError("an array is nested lists of numbers, all of one length") from None


def share_app(service: ShareService, token: str | None) -> ASGIApp:
    """Return the application; `token` is what callers show as ``Authorization: Bearer TOKEN``."""
    share = service.share
    app = FastAPI(
        title="SheafAlign-FL: one client's share",
        description="What one client learnt; `/share` says which, and in which run.",
        version=__version__, docs_url=None, redoc_url=None,
    )  # fmt: skip

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/share")
    def facts() -> dict[str, Any]:
        return share.facts.model_dump(mode="json")

    app.post("/embed")(service.embed)
    app.post("/compare/{neighbour}")(service.compare)
    app.post("/impute")(service.impute)
    app.post("/search/{neighbour}")(service.search)
    app.post("/classify")(service.classify)
    _add_pages(app)

    @app.exception_handler(SheafAlignError)
    def refused(_: Request, error: SheafAlignError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    return Bounded(app, service.limits, token)


def _add_pages(app: FastAPI) -> None:
    """Add pages that explain the service, where what draws them is installed: none is fetched."""
    if not has("swagger_ui_bundle"):
        return
    from swagger_ui_bundle import swagger_ui_path  # by an extra

    app.mount("/assets", StaticFiles(directory=swagger_ui_path))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json", title=app.title,
            swagger_js_url="/assets/swagger-ui-bundle.js",
            swagger_css_url="/assets/swagger-ui.css",
            swagger_favicon_url="/assets/favicon-32x32.png",
        )  # fmt: skip


class Bounded:
    """Asks for the token, and reads no more of a body than one may send."""

    def __init__(self, application: ASGIApp, limits: Limits, token: str | None) -> None:
        """Stand before `application`."""
        self._application, self._token = application, token
        self._allowance = Allowance(limits.body_bytes, _PAUSE_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if not self._may(scope):
            await _answer(401, "show the service's token")(scope, receive, send)
            return
        try:
            body = await read_body(scope, receive, self._allowance)
            if _depth(body) > _DEEPEST:
                raise TooLargeError
        except TooLargeError:
            told = (
                f"a request has at most {self._allowance.body_bytes} bytes, and {_DEEPEST} levels"
            )
            await _answer(413, told)(scope, receive, send)
        except TimeoutError:
            await _answer(408, "the body did not arrive")(scope, receive, send)
        else:
            await self._application(scope, replayed(body, receive), send)

    def _may(self, scope: Scope) -> bool:
        path = scope["path"]
        if self._token is None or path in OPEN or path.startswith(OPEN[-1]):
            return True
        shown = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(shown, f"Bearer {self._token}".encode())


def _depth(body: bytes) -> int:
    """Return how deep brackets are nested at most: a parser descends into each of them."""
    codes = np.frombuffer(body, dtype=np.uint8)
    steps = np.isin(codes, _OPENING).astype(np.int8) - np.isin(codes, _CLOSING).astype(np.int8)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _answer(status: int, detail: str) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    headers = {"connection": "close"} | ({"www-authenticate": "Bearer"} if status == 401 else {})
    return cast(
        "Callable[[Scope, Receive, Send], Awaitable[None]]",
        JSONResponse({"detail": detail}, status, headers),
    )
