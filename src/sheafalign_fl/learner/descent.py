"""How a step is taken: the optimiser, its learning rate, and what a step must not do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sheafalign_fl.config.schema import TrainingSettings
from sheafalign_fl.errors import RunError
from sheafalign_fl.learner.factories import learning_rate, new_optimiser
from sheafalign_fl.learner.state import below
from sheafalign_fl.sheaf.maps import EdgeMaps

StepCheck = Literal["loss", "gradient", "weights"]
_Kept = tuple[list[Tensor], dict[Tensor, dict[Any, Tensor]]]


class StepNotTakenError(RunError):
    """A step would have left finite numbers, so it was not taken; nothing has changed."""

    def __init__(self, check: StepCheck, message: str) -> None:
        """Say what was not finite, and tell people."""
        super().__init__(message)
        self.check: StepCheck = check


class Descent:
    """The optimiser of one client, or of several that train jointly."""

    def __init__(
        self,
        whose: str,
        owned: Sequence[Sequence[nn.Parameter]],
        maps: Sequence[EdgeMaps],
        settings: TrainingSettings,
    ) -> None:
        """Optimise the parameters `owned` by each client.

        Parameters
        ----------
        whose
            Named where a loss is not finite.
        maps
            The maps among them, whose learnt temperatures are limited after a step.
        """
        self._whose, self._owned, self._maps, self._settings = whose, owned, maps, settings
        self._parameters = [parameter for own in owned for parameter in own]
        self._optimiser = self._new_optimiser()

    def _new_optimiser(self) -> torch.optim.Optimizer:
        return new_optimiser(list(dict.fromkeys(self._parameters)), self._settings)

    def step(self, total: Tensor, exchange: int) -> None:
        """Take one step down the gradient of `total`, a scalar.

        Raises
        ------
        StepNotTakenError
            It, its gradient, or the weights after the step are not finite. Weights and optimiser
            are as they were.
        """
        if not torch.isfinite(total):
            raise self._not_taken("loss", f"the loss of {self._whose} is {total.item()}", exchange)
        if not total.requires_grad:  # nothing that is weighted had enough events
            return
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if not _in_range(p.grad for p in self._parameters if p.grad is not None):
            raise self._not_taken(
                "gradient", f"the gradient of {self._whose} is not finite", exchange
            )
        if self._settings.clip is not None:
            self._shorten(self._settings.clip)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._settings, exchange)
        kept = self._copy()
        self._optimiser.step()
        for maps in self._maps:
            maps.limit_temperature()
        if not _in_range(self._parameters):
            self._take_back(kept)
            raise self._not_taken(
                "weights", f"a step made weights of {self._whose} that are not finite", exchange
            )

    @staticmethod
    def _not_taken(check: StepCheck, what: str, exchange: int) -> StepNotTakenError:
        return StepNotTakenError(
            check, f"{what} at exchange {exchange}; a smaller training.learning_rate may help"
        )

    def _copy(self) -> _Kept:
        states = {
            parameter: {key: torch.as_tensor(value).clone() for key, value in state.items()}
            for parameter, state in self._optimiser.state.items()
        }
        return [parameter.detach().clone() for parameter in self._parameters], states

    def _take_back(self, kept: _Kept) -> None:
        values, states = kept
        with torch.no_grad():
            for parameter, value in zip(self._parameters, values, strict=True):
                parameter.copy_(value)
        self._optimiser.state.clear()
        self._optimiser.state.update(states)

    def _shorten(self, longest: float) -> None:
        """Shorten each client's gradient by itself, so that no client needs another's.

        Scalars (a learnt temperature) neither count nor are shortened: the two ends of an edge
        would take different steps with their copies.
        """
        for own in self._owned:
            torch.nn.utils.clip_grad_norm_([p for p in own if p.ndim > 0], longest)

    def state(self) -> dict[str, Tensor]:
        """Return what the optimiser remembers of each parameter, as ``INDEX.NAME``."""
        return {
            f"{index}.{key}": torch.as_tensor(value).detach().cpu()
            for index, parameter in enumerate(self._parameters)
            for key, value in self._optimiser.state.get(parameter, {}).items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self._optimiser = self._new_optimiser()
        for index, parameter in enumerate(self._parameters):
            if found := below(f"{index}.", state):
                # Adam keeps its step count on the CPU, its moments beside the parameter. Cloned,
                # because what safetensors returns lies wherever it lay in the file, and alignment
                # decides which kernels run.
                self._optimiser.state[parameter] = {
                    key: value.clone() if key == "step" else value.clone().to(parameter.device)
                    for key, value in found.items()
                }


def _in_range(tensors: Iterable[Tensor]) -> bool:
    """Return whether all values are finite and so are the sums of their squares, as Adam needs."""
    sums = [tensor.detach().square().sum() for tensor in tensors]
    return not sums or bool(torch.stack(sums).isfinite().all())
