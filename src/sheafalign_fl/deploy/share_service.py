"""One client's share as an HTTP service: it embeds, compares, stands in, searches and classifies.

Requests are JSON. What they hold is bounded before it is read, and whoever asks shows a token
(`deploy.bounded`); nothing is kept between two requests but the gallery that the service was
started with.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp

from sheafalign_fl.data.sequences import padded
from sheafalign_fl.deploy.bounded import Bounded, Limits
from sheafalign_fl.errors import DataError, SheafAlignError
from sheafalign_fl.extras import has
from sheafalign_fl.shares.comparison import Comparison
from sheafalign_fl.shares.heads import Head
from sheafalign_fl.shares.imputation import Imputed
from sheafalign_fl.shares.inputs import careful
from sheafalign_fl.shares.search import Gallery
from sheafalign_fl.shares.share import Share
from sheafalign_fl.version import __version__


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

    x: list[Any] | None = Field(None, description="(N, ...): raw events, in the sensor's units")
    received: dict[str, list[Any]] | None = Field(
        None, description="neighbour -> z for this client, (N, d_e)"
    )
    run_id: str = Field("", description="of the run that `received` was made in, where known")


class ShareService:
    """What the service does, without HTTP. Whoever calls it lets one call end before the next."""

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
        self._own = None if gallery is None else share.embed(gallery)
        self._galleries: dict[str, Gallery] = {}

    def embed(self, asked: Events) -> dict[str, Any]:
        """Return h of raw events."""
        x = self._events(asked.x)
        self._check_answer(len(x), self.share.facts.dim)
        h, careful = self._of_events(x)
        return {"embedding": h.tolist(), **careful}

    def compare(self, neighbour: str, asked: Asked) -> dict[str, Any]:
        """Return z for a neighbour, of events or of what others sent of them instead."""
        self._known(neighbour)
        if asked.received is not None and neighbour in asked.received:
            raise HTTPException(
                422, f"z of '{neighbour}' itself cannot stand in for z that it asks"
            )
        h, careful = self._embedded(asked, self.share.space(neighbour))
        z = self.share.restrict(neighbour, h)
        return {
            "z": np.asarray(z).tolist(),
            "run_id": self.share.facts.run_id,
            "stood_in_for": asked.x is None,
            **careful,
        }

    def impute(self, asked: Received) -> dict[str, Any]:
        """Return h as the neighbours know it, and how far off it is."""
        made = self._imputed(asked.received, asked.run_id, self.share.facts.dim)
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
        z = self.share.received(neighbour, self._array(asked.z))
        self._check_answer(len(z), 2 * asked.k)
        z = self.share.refined(neighbour, z, own=False)
        gallery, careful = self._gallery(neighbour, asked.gallery)
        found = gallery.search(z, asked.k)
        scores = [[None if np.isnan(score) else score for score in row] for row in found.scores]
        return {"rows": found.rows.tolist(), "scores": scores, **careful}

    def classify(self, asked: Asked) -> dict[str, Any]:
        """Return what the head says, of events or of what neighbours sent instead."""
        if self.head is None:
            raise HTTPException(404, "this service was started without a head")
        h, careful = self._embedded(asked, len(self.head.classes) + 1)
        made = self.head.of_embeddings({self.share.client: h})
        answer: dict[str, Any] = {
            "labels": made.labels.tolist(),
            "stood_in_for": asked.x is None,
            **careful,
        }
        if made.probabilities is not None:
            answer |= {
                "classes": made.classes.tolist(), "probabilities": made.probabilities.tolist()
            }  # fmt: skip
        return answer

    def _of_events(self, x: NDArray[np.floating]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return h of events, and what to be careful of, as a part of the answer."""
        with careful() as told:
            h = self.share.embed(x)
        return h, {"careful": told} if told else {}

    def _embedded(self, asked: Asked, width: int) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return h of events, or what neighbours tell of it, for an answer `width` numbers wide.

        Beside it, what to be careful of, as a part of the answer.
        """
        if (asked.x is None) == (asked.received is None):
            raise HTTPException(422, "give x, or received where the sensor is broken")
        if asked.x is None:
            return self._imputed(asked.received or {}, asked.run_id, width).values, {}
        x = self._events(asked.x)
        self._check_answer(len(x), width)
        return self._of_events(x)

    def _gallery(self, neighbour: str, given: list[Any] | None) -> tuple[Gallery, dict[str, Any]]:
        """Return what is searched in: the events of a request, or the service's own.

        Beside it, what to be careful of, as a part of the answer.
        """
        if given is not None:
            h, careful = self._of_events(self._events(given))
            return self._searched(neighbour, h), careful
        if self._own is None:
            raise HTTPException(400, "this service has no gallery of its own; send `gallery`")
        if neighbour not in self._galleries:
            self._galleries[neighbour] = self._searched(neighbour, self._own)
        return self._galleries[neighbour], {}

    def _searched(self, neighbour: str, h: NDArray[np.float32]) -> Gallery:
        return Gallery(self.share.refined(neighbour, self.share.restrict(neighbour, h), own=True))

    def _imputed(self, received: Mapping[str, list[Any]], run_id: str, width: int) -> Imputed:
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
        self._check_answer(len(next(iter(z.values()))), width)
        return share.imputation.ridge(z)

    def _known(self, neighbour: str) -> None:
        try:
            self.share.space(neighbour)
        except DataError as error:
            raise HTTPException(404, str(error)) from None

    def _check_answer(self, events: int, width: int) -> None:
        """Refuse what has an answer of more numbers than one may ask for."""
        if events * width > self.limits.numbers:
            most = self.limits.numbers // width
            raise HTTPException(
                413, f"the answer for {events} events has {events * width} numbers, at most "
                f"{self.limits.numbers}: ask for {most} events at a time",
            )  # fmt: skip

    def _events(self, values: list[Any]) -> NDArray[np.floating]:
        """Return raw events; of unequal ones each may have a length of its own."""
        if not (self.share.facts.unequal and values):
            return self._array(values)
        if len(values) > self.limits.events:
            raise HTTPException(413, f"{len(values)} events; at most {self.limits.events}")
        if not all(isinstance(value, list) for value in values):
            raise DataError("an event is a list of channels, each a list of numbers")
        self._check_padded(len(values))
        where, most = f"client '{self.share.client}'", self.share.facts.event_shape[1]
        return padded([self._array(value) for value in values], where, most)

    def _check_padded(self, events: int) -> None:
        """Refuse events of unequal length that are few numbers as they came, and many to embed.

        However short they are, the encoder takes all of them as long as the longest of training.
        """
        each = math.prod(self.share.facts.event_shape)
        if events > (most := max(1, self.limits.padded // each)):
            raise HTTPException(
                413, f"{events} events, padded to the {each} numbers of a whole one, are "
                f"{events * each}, at most {self.limits.padded}: ask for {most} events at a time",
            )  # fmt: skip

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
