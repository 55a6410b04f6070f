"""Comparing methods under equal conditions: cells (data x method x seed), results, findings."""

from sheafalign_fl.benchmark.launch import run_benchmark
from sheafalign_fl.benchmark.results import Benchmark, load_benchmark

__all__ = ["Benchmark", "load_benchmark", "run_benchmark"]
