"""Packages that only some machines need, and the extra of this package that brings each."""

import importlib.util

from sheafalign_fl.errors import UserError

EXTRAS = {
    "ray": ("ray", "simulation"),
    "matplotlib": ("matplotlib", "report"),
    "jinja2": ("jinja2", "report"),
    "PIL": ("pillow", "recordings"),
    "scipy": ("scipy", "recordings"),
    "pyarrow": ("pyarrow", "tables"),
    "soundfile": ("soundfile", "audio"),
    "sklearn": ("scikit-learn", "probes"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "mlflow": ("mlflow", "mlflow"),
    "wandb": ("wandb", "wandb"),
    "prometheus_client": ("prometheus-client", "deploy"),
    "onnx": ("onnx", "export"),
    "onnxscript": ("onnxscript", "export"),
    "onnxruntime": ("onnxruntime", "export"),
}
"""Module -> its package, and the extra that brings it (``pip install 'sheafalign-fl[EXTRA]'``)."""


class MissingExtraError(UserError):
    """Something asked for needs a package that is not installed here."""

    def __init__(self, module: str, what: str) -> None:
        """Say that `what` needs `module`, and how it is installed."""
        package, extra = EXTRAS[module]
        super().__init__(
            f"{what} needs {package}, which is not installed here; "
            f"pip install 'sheafalign-fl[{extra}]'"
        )


def has(module: str) -> bool:
    """Say whether an optional module is installed; nothing is imported."""
    return importlib.util.find_spec(module) is not None


def require(module: str, what: str) -> None:
    """Raise `MissingExtraError` unless `module` is installed: `what` needs it."""
    if not has(module):
        raise MissingExtraError(module, what)


def explained(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return what to say of an import that failed, if an extra would mend it."""
    module = (error.name or "").partition(".")[0]
    return MissingExtraError(module, "this") if module in EXTRAS else None
