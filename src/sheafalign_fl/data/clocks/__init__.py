"""Clocks of sensors: times as people write them, their rates, and how far two are apart."""

from sheafalign_fl.data.clocks.correction import corrected
from sheafalign_fl.data.clocks.lags import Lag, estimate_lag, lags_to_reference
from sheafalign_fl.data.clocks.rates import Clock, Grid, describe_clock, propose_grid
from sheafalign_fl.data.clocks.ticks import ticks
from sheafalign_fl.data.clocks.times import UNITS, seconds

__all__ = [
    "UNITS",
    "Clock",
    "Grid",
    "Lag",
    "corrected",
    "describe_clock",
    "estimate_lag",
    "lags_to_reference",
    "propose_grid",
    "seconds",
    "ticks",
]
