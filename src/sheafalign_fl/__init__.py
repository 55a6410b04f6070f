"""SheafAlign-FL: decentralised multimodal alignment on Flower (arXiv 2510.20540)."""

from sheafalign_fl.version import __version__

__all__ = ["__version__"]
