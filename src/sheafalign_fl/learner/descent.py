"""How a step is taken: the optimiser, its learning rate, and what a step must not do."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sheafalign_fl.config.schema import TrainingSettings
from sheafalign_fl.errors import RunError
from sheafalign_fl.learner.factories import learning_rate, new_optimiser
from sheafalign_fl.learner.state import below
from sheafalign_fl.sheaf.maps import EdgeMaps


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
        RunError
            It is not finite. The step has not been taken then.
        """
        if not torch.isfinite(total):
            raise RunError(
                f"the loss of {self._whose} is {total.item()} at exchange {exchange}; "
                "a smaller training.learning_rate may help"
            )
        if not total.requires_grad:  # nothing that is weighted had enough events
            return
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._settings, exchange)
        self._optimiser.step()
        for maps in self._maps:
            maps.limit_temperature()

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
