"""The schema of a federation: every setting, its type, its default and its limits.

All models are frozen, refuse unknown keys, and are strict: ``"3"`` is not an integer.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sheafalign_fl.config.digest import digest_of
from sheafalign_fl.config.methods import MethodName, apply_method
from sheafalign_fl.config.registry import Extension
from sheafalign_fl.config.values import (
    Fraction,
    Int,
    Options,
    PositiveInt,
    Weight,
    as_tuple,
    check_names,
    is_client_name,
)

LEAST_TEMPERATURE = 0.01
"""Of a learnt tau, as in CLIP (arXiv 2103.00020): a smaller one makes training unstable."""


_FAMILIES = ("linear", "orthogonal", "identity", "shared")
_CONTRASTS = ("pairs", "centroid", "volume", "area", "product")
_TOPOLOGIES = ("complete", "ring", "star", "path", "random", "small-world", "edges")


class _Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class DataSettings(_Settings):
    """Where the events come from."""

    source: Annotated[str, Extension("data source")] = "scenes"
    """A built-in source (`sheafalign data list`) or a dotted path ``package.module:factory``."""
    path: str | None = None
    """Folder or file of the source's data; relative to the configuration's folder. On a deployed
    node it is that node's own (`--data`)."""
    options: Options = Field(default_factory=dict)
    """Options of the source; `sheafalign data describe NAME` lists them."""

    @model_validator(mode="before")
    @classmethod
    def _path_of_options(cls, value: object) -> object:
        """Let a path stand among the options, where earlier versions had it."""
        options = value.get("options") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(options, dict) or "path" not in options:
            return value
        if value.get("path") not in (None, options["path"]):
            raise ValueError("path and options.path differ; leave out options.path")
        kept = {name: option for name, option in options.items() if name != "path"}
        return {**value, "path": options["path"], "options": kept}

    @property
    def source_options(self) -> dict[str, Any]:
        """Return what the source is given: its options, and the path if there is one."""
        return self.options if self.path is None else {"path": self.path, **self.options}


class ClientSettings(_Settings):
    """One client: a modality with its encoder, on its own device."""

    modality: str | None = None
    """The modality in the data source; default: the client's own name."""
    encoder: Annotated[str, Extension("encoder")] = "auto"
    """auto (what the data source recommends, else by the input's shape), vector, signal, image,
    camera, depth, range-image, points, scan, radar, beam, inertial, skeleton, csi, linear
    (`sheafalign encoders` lists them with their inputs), or a dotted path
    ``package.module:factory``."""
    encoder_options: Options = Field(default_factory=dict)
    features: str | None = None
    """An `.npz` file with `x` and `event_id` that is used instead of the modality's own input, such
    as the output of a frozen foundation model; relative to the configuration's folder, on a
    deployed node to the node's data."""
    dim: PositiveInt = 128
    """d_i, the dimension of the node stalk."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    missing: Fraction = 0.0
    """Fraction of events that this client is made to lack, drawn from the seed."""
    freeze: bool = False
    """Encoder, and the maps that `init_from` gave it, stay as they are; it goes on sending
    comparison embeddings, and its maps towards new neighbours are trained (docs/go-on.md)."""
    replicas: PositiveInt = 1
    """Make this many clients of the kind, named NAME-0, NAME-1, ..."""


class EdgeSettings(_Settings):
    """An edge of an explicit edge list."""

    between: Annotated[tuple[str, str], BeforeValidator(as_tuple)]
    dim: PositiveInt | None = None
    """d_e of this edge; default: `graph.dim`."""


class GraphSettings(_Settings):
    """The federation graph: who is a neighbour of whom, and how large each comparison space is."""

    topology: Annotated[str, Extension("topology", _TOPOLOGIES, on_relay=True)] = "complete"
    """complete, ring, star, path, random, small-world, edges, or a dotted path to a function of
    (clients, graph settings, seed) that returns pairs of indices."""
    dim: PositiveInt = 64
    """d_e, the dimension of every comparison space that does not state its own."""
    centre: str | None = None
    """star: the hub (the anchor modality); default: the first client."""
    probability: Annotated[float, Field(gt=0, le=1)] = 0.5
    """random: of each edge; small-world: of rewiring each edge."""
    neighbours: PositiveInt = 4
    """small-world: neighbours of each client before rewiring (even)."""
    edges: Annotated[tuple[EdgeSettings, ...], BeforeValidator(as_tuple)] = ()
    """edges: the list, each ``{between: [a, b], dim: 32}``."""

    @model_validator(mode="after")
    def _edges_belong_to_topology(self) -> Self:
        if self.topology == "edges" and not self.edges:
            raise ValueError(
                "topology 'edges' needs a list under 'edges', such as [{between: [a, b], dim: 64}]"
            )
        if self.topology != "edges" and self.edges:
            raise ValueError(f"a list under 'edges' needs topology 'edges', not '{self.topology}'")
        return self


class MapSettings(_Settings):
    """Restriction maps P_ij and dual maps Q_ij."""

    family: Annotated[str, Extension("map family", _FAMILIES)] = "linear"
    """linear, orthogonal, identity, shared (linear, one for all edges of a client), or a dotted
    path to a function of (dim, edge_dim, initial) that returns `EdgeMaps`."""
    initial: Literal["normal", "orthogonal", "xavier"] = "orthogonal"
    """linear, shared: initial values; normal is the paper's N(0, 0.1^2)."""

    @property
    def one_space(self) -> bool:
        """Whether a client sends the same to all neighbours, so that all lies in one space."""
        return self.family in ("identity", "shared")


class ObjectiveSettings(_Settings):
    """Weights and forms of the objective (DESIGN section 2).

    The defaults are the best that we found on validation events; `method: paper` gives the paper's.
    The Laplacian term is off: it pulls the ends of an edge together without telling events apart,
    which contrast does, and on every data set tried it cost retrieval and transfer (README,
    benchmark).
    """

    laplacian: Weight = 0.0
    contrastive: Weight = 1.0
    contrast: Annotated[str, Extension("contrast", _CONTRASTS)] = "pairs"
    """What the contrastive term compares: the two ends of each edge (pairs); every client with the
    centroid of all (CentroBind); the volume that the embeddings of all clients span (GRAM); the
    area of the triangle between three clients (TRIANGLE); the multilinear inner product of all
    clients (product, Symile); or a dotted path to a loss of (embeddings of all clients, tau)."""
    false_negatives: Literal["keep", "mask"] = "keep"
    """mask: events of a batch that are equal to one of the clients, or whose windows overlap, are
    no negatives of each other. Clients then tell the relay which of their events are equal."""
    reconstruction: Weight = 0.1
    cross_reconstruction: Weight = 1.0
    """MSE(Q_ij z_ji, h_i), gradient to Q_ij alone: teaches the dual map to impute from a
    neighbour."""
    stop_gradient: bool = False
    """Reconstruction trains the dual maps alone: h_i and z_ij are constants in it."""
    variance: Weight = 0.0
    """Of z_ij: a hinge that keeps the deviation of every dimension at 1 or more (VICReg)."""
    covariance: Weight = 0.0
    """Of z_ij: the squares of the covariances between its dimensions (VICReg)."""
    procrustes: Weight = 0.0
    """The Laplacian after the rotation between the two ends that fits the batch best
    (Sheaf-FRL)."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2
    """tau, or where it starts from if it is learnt."""
    label_smoothing: Fraction = 0.0
    """Of the contrastive term: this share of the target goes to all events of the batch alike."""
    learnable_temperature: bool = False
    """Learn tau for each edge; both ends keep a copy, and exact exchange keeps the copies equal."""
    normalised_laplacian: bool = True
    """Compare unit vectors in the Laplacian term, so that it cannot shrink the embeddings."""
    terms: dict[Annotated[str, Extension("objective term")], Weight] = Field(default_factory=dict)
    """Further terms and their weights: a dotted path ``package.module:TERM`` to a class or function
    that takes a `sheafalign_fl.sheaf.EdgeBatch` and returns a scalar."""

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.laplacian == self.contrastive == self.procrustes == 0:
            raise ValueError(
                "laplacian, contrastive and procrustes are all 0, so nothing would align the "
                "clients"
            )
        if self.learnable_temperature and self.temperature < LEAST_TEMPERATURE:
            raise ValueError(f"a learnable temperature cannot start below {LEAST_TEMPERATURE}")
        if self.false_negatives == "mask" and self.contrast != "pairs":
            raise ValueError(f"false_negatives: mask needs contrast: pairs, not {self.contrast}")
        if self.learnable_temperature and self.contrast != "pairs":
            raise ValueError(
                "learnable_temperature is an edge's, so it needs contrast: pairs, "
                f"not {self.contrast}"
            )
        return self


class TrainingSettings(_Settings):
    """How long and how each client learns."""

    exchanges: Annotated[Int, Field(ge=0, lt=2**31)] = 600
    """0: untrained, the floor of every metric."""
    epochs: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Instead of `exchanges`: passes over the agreed training events, from which the run's
    exchanges follow (docs/go-on.md); needs the data on the machine that starts the run."""
    patience: PositiveInt | None = None
    """Stop when so many measurements on validation events in a row were no better than the best;
    by `checkpoint.best`, else by R@10."""
    batch_size: Annotated[Int, Field(ge=2)] = 128
    """Events of one batch (B)."""
    batches: PositiveInt = 1
    """Batches of one exchange: one message carries the embeddings of them all, and a step is taken
    on each in turn."""
    local_steps: PositiveInt = 1
    """Passes over the batches of an exchange, with the same embeddings from the neighbours (K)."""
    replay: Annotated[int, Field(ge=0)] = 0
    """Further steps of an exchange on past batches, with what the neighbours sent of them then."""
    replay_from: Fraction = 0.1
    """Replay from this fraction of all exchanges on."""
    replay_batches: PositiveInt | None = None
    """At most so many past batches are remembered: events * d_e values a batch and neighbour, in
    `dtype`; default: those of an epoch."""
    stale: bool = False
    """Embed the next batches before stepping on the last, so that messages can travel while clients
    compute."""
    error_feedback: bool = False
    """Add what the codec lost of an event's embedding to the same event's embedding when it comes
    round again."""
    optimiser: Annotated[str, Extension("optimiser", ("adam", "adamw", "sgd"))] = "adam"
    """adam, adamw, sgd, or a dotted path to a function of (parameter groups, lr). Scalars are in a
    group of their own, which is not decayed."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    weight_decay: Weight = 0.0
    decay: Literal["none", "cosine"] = "none"
    """Of the learning rate: none, or to 0 along half a cosine over all exchanges."""
    warmup: Fraction = 0.0
    """Fraction of all exchanges over which the learning rate rises evenly; `decay` follows."""
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Longest gradient of a client (Euclidean norm over its weights); null: none is shortened."""
    dtype: Literal["float32", "float64"] = "float32"
    deadline: Annotated[float, Field(gt=0)] | None = None
    """Seconds that the others wait for a client in one exchange; null: for ever."""
    setup_deadline: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that the relay waits for all clients to appear and to get ready."""
    min_clients: Annotated[Int, Field(ge=2)] | None = None
    """Begin or resume with so many clients at least: one that does not come, refuses, or answers
    what cannot be read is left out, with its reason; null: a run needs all of its clients."""


METRICS = ("retrieval", "transfer", "probe", "missing", "consistency")
"""The built-in ones that are measured unless a configuration says which; beside them there are
`FURTHER_METRICS` and those of the user's own, by a dotted path."""
FURTHER_METRICS = ("recall-by-label",)
"""Built-in ones that are measured where a configuration names them."""

_KNOWN_METRICS = (*METRICS, *FURTHER_METRICS)

DEFAULT_SCORE = "R@10"
"""By which a run is watched that does not say by what."""


class EvaluationSettings(_Settings):
    """What is measured on held-out events, and how often (DESIGN section 5)."""

    metrics: Annotated[
        tuple[Annotated[str, Extension("metric", _KNOWN_METRICS, on_relay=True)], ...],
        BeforeValidator(as_tuple),
    ] = METRICS
    label: str | None = None
    """The label that transfer, probe, missing and mAP use; default: the source's first."""
    every: Annotated[Int, Field(ge=0)] = 50
    """Exchanges between two measurements of retrieval on validation events; 0: only at the end."""
    events: PositiveInt = 2000
    """At most this many test (and half as many validation) events, the same for all clients."""
    train_events: PositiveInt = 4000
    """At most this many training events to fit probes and prototypes on."""
    split: Literal["test", "validation"] = "test"
    """Held-out events of the final evaluation; validation is for choosing settings without a look
    at test events."""
    refine: Literal["none", "procrustes", "cca"] = "none"
    """Closed-form refinement of the maps after training, from what a client received last (no
    byte): how z are compared in the final evaluation's retrieval and transfer, and in use."""
    deadline: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that an evaluation waits for a client's answer; scoring takes longer than an
    exchange."""

    @field_validator("metrics")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a metric is named twice")
        return value


class ResourceSettings(_Settings):
    """What each simulated client may use.

    Nothing here changes a result, except `threads` in its last bits.
    """

    cpus: PositiveInt = 1
    """CPUs that Ray reserves for each simulated client at work; Flower takes whole ones only."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    threads: PositiveInt = 1
    """torch threads of each client at work."""
    workers: PositiveInt | None = None
    """Clients at work at the same time; default: as many as the processors allow (`cpus` each)."""


class CheckpointSettings(_Settings):
    """When clients save their state so that a run can be resumed to the same bits."""

    every: Annotated[Int, Field(ge=0)] = 50
    """Exchanges between two checkpoints; 0: only at the end."""
    keep: PositiveInt = 2
    best: str | None = None
    """Keep the checkpoint of the exchange that was best on validation events beside the last ones:
    by R@10, R@1, mAP, disagreement, or a score of an own metric that is measured there."""


class SecuritySettings(_Settings):
    """What the relay may see."""

    sealed: bool = False
    """Encrypt comparison embeddings end to end between clients; needs keys, so only deployed
    federations can. `sheafalign run --relay` sets it unless the configuration says otherwise."""


class Settings(_Settings):
    """A whole experiment, validated."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "federation"
    seed: Annotated[Int, Field(ge=0)] = 0
    engine: Literal["flower", "inprocess", "pooled", "deployed"] = "flower"
    """deployed: on a relay with nodes on other machines (`sheafalign run --relay`). pooled: joint
    training on raw data that all clients have sent to one place, for reference."""
    method: MethodName = "sheafalign"
    """What the settings below default to; see `sheafalign_fl.config.methods`."""
    init_from: str | None = None
    """Start from the last weights that clients of the same names had in another run: a run folder
    (a path with a slash is relative to the configuration's folder), or on a relay the run's name
    there, by which each node finds its own state."""
    data: DataSettings = DataSettings()
    clients: dict[str, ClientSettings]
    graph: GraphSettings = GraphSettings()
    maps: MapSettings = MapSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: TrainingSettings = TrainingSettings()
    codec: Annotated[str, Extension("codec", on_relay=True)] = "float32"
    evaluation: EvaluationSettings = EvaluationSettings()
    resources: ResourceSettings = ResourceSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    security: SecuritySettings = SecuritySettings()

    @model_validator(mode="before")
    @classmethod
    def _method_below(cls, value: object, info: ValidationInfo) -> object:
        """Lay under the settings what their method prescribes, unless it was when they were made.

        What they do not say then is younger than they are, and is off.
        """
        resolved = info.context is not None and bool(info.context.get("resolved"))
        return value if resolved or not isinstance(value, dict) else apply_method(value)

    @model_validator(mode="after")
    def _enough_clients(self) -> Self:
        least = self.training.min_clients
        if least is not None and least > len(self.clients):
            raise ValueError(
                f"training.min_clients is {least}, but there are {len(self.clients)} clients"
            )
        return self

    @model_validator(mode="after")
    def _contrast_fits(self) -> Self:
        contrast = self.objective.contrast
        one_space = self.maps.one_space and self.graph.topology == "complete"
        if contrast != "pairs" and not one_space:
            raise ValueError(
                f"objective.contrast '{contrast}' compares all clients with each other, so it "
                "needs graph.topology: complete and maps.family: identity or shared"
            )
        if contrast == "area" and len(self.clients) != 3:
            raise ValueError(
                "objective.contrast 'area' is that of a triangle, so it needs 3 clients, not "
                f"{len(self.clients)}"
            )
        if self.maps.family == "shared" and self.objective.learnable_temperature:
            raise ValueError(
                "objective.learnable_temperature is an edge's, so it needs maps of each edge, not "
                "maps.family: shared"
            )
        return self

    @model_validator(mode="after")
    def _stalks_compare(self) -> Self:
        dims = sorted({client.dim for client in self.clients.values()})
        if "recall-by-label" in self.evaluation.metrics and len(dims) > 1:
            raise ValueError(
                "evaluation.metrics: 'recall-by-label' compares the clients' own embeddings with "
                f"each other, so all clients need one dim, not {', '.join(map(str, dims))}"
            )
        return self

    @model_validator(mode="after")
    def _measured_on_the_way(self) -> Self:
        if self.watched_score is not None and self.evaluation.every == 0:
            where = "checkpoint.best" if self.checkpoint.best else "training.patience"
            raise ValueError(f"{where} needs measurements on the way; set evaluation.every above 0")
        if self.training.patience is not None and self.engine == "pooled":
            raise ValueError(
                "training.patience: engine pooled trains in one go and measures nothing on the way"
            )
        return self

    @property
    def watched_score(self) -> str | None:
        """The score on validation events that says which exchange is best; None: nobody asks."""
        patient = self.training.patience is not None
        return self.checkpoint.best or (DEFAULT_SCORE if patient else None)

    @field_validator("clients", mode="before")
    @classmethod
    def _expand_clients(cls, value: object) -> object:
        """Let ``camera:`` stand for ``camera: {}``, a list of names for clients with defaults."""
        if isinstance(value, list):
            check_names(value)
            if len(set(value)) != len(value):
                raise ValueError("a client is named twice")
            return {name: {} for name in value}
        if isinstance(value, str | int):
            raise ValueError(  # noqa: TRY004
                "must name two clients at least; write [camera, lidar]"
            )
        if isinstance(value, dict):
            return {name: {} if client is None else client for name, client in value.items()}
        return value

    @field_validator("clients")
    @classmethod
    def _replicate(cls, value: dict[str, ClientSettings]) -> dict[str, ClientSettings]:
        expanded: dict[str, ClientSettings] = {}
        for name, client in value.items():
            single = client.model_copy(update={"modality": client.modality or name, "replicas": 1})
            names = (
                [name]
                if client.replicas == 1
                else [f"{name}-{index}" for index in range(client.replicas)]
            )
            for replica in names:
                if replica in expanded:
                    raise ValueError(f"two clients are named '{replica}'")
                if not is_client_name(replica):
                    raise ValueError(f"'{replica}' cannot name a client")
                expanded[replica] = single
        if len(expanded) < 2:
            raise ValueError(f"a federation needs at least two clients, not {len(expanded)}")
        return expanded

    def digest(self) -> str:
        """Return the digest of all settings on which the clients have to agree."""
        # With a patience the score decides how long clients learn.
        patient = self.training.patience is not None
        return digest_of(self, {"watched_score": self.watched_score} if patient else None)
