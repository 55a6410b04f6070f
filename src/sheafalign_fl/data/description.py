"""What a built-in data source says about itself: for `sheafalign data`, and to check options."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One modality of a source."""

    name: str
    shape: str
    meaning: str


@dataclass(frozen=True)
class Option:
    """One option of a source; an option without a default (None) has to be given."""

    name: str
    kind: str
    default: object
    meaning: str


@dataclass(frozen=True)
class Labels:
    """One kind of label that a source gives to its events."""

    name: str
    classes: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class SourceInfo:
    """A built-in data source."""

    name: str
    summary: str
    origin: str
    modalities: tuple[Modality, ...]
    """Empty: the modalities are whatever the user has."""
    options: tuple[Option, ...]
    labels: tuple[Labels, ...]
