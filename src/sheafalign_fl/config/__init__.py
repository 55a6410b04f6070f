"""Configuration: YAML to validated, frozen settings."""

from sheafalign_fl.config.load import (
    decode,
    encode,
    load_resolved,
    load_settings,
    parse_assignments,
    parse_settings,
    to_yaml,
)
from sheafalign_fl.config.schema import (
    FURTHER_METRICS,
    METRICS,
    ClientSettings,
    DataSettings,
    EdgeSettings,
    GraphSettings,
    MapSettings,
    ObjectiveSettings,
    Settings,
    TrainingSettings,
)
from sheafalign_fl.config.values import Options

__all__ = [
    "FURTHER_METRICS",
    "METRICS",
    "ClientSettings",
    "DataSettings",
    "EdgeSettings",
    "GraphSettings",
    "MapSettings",
    "ObjectiveSettings",
    "Options",
    "Settings",
    "TrainingSettings",
    "decode",
    "encode",
    "load_resolved",
    "load_settings",
    "parse_assignments",
    "parse_settings",
    "to_yaml",
]
