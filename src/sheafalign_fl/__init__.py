"""SheafAlign-FL: decentralised multimodal alignment by comparison spaces, on Flower."""

__version__ = "0.1.0"
