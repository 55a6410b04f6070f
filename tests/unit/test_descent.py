"""One step: its learning rate, the length of its gradient, what it leaves alone."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sheafalign_fl.config.schema import TrainingSettings
from sheafalign_fl.learner.descent import Descent
from sheafalign_fl.learner.factories import learning_rate
from sheafalign_fl.sheaf import covariance_loss, variance_loss


def settings(**chosen: Any) -> TrainingSettings:
    return TrainingSettings(**{"optimiser": "sgd", "learning_rate": 0.5, **chosen})


def test_the_rate_rises_over_the_warm_up_and_falls_after_it() -> None:
    chosen = settings(exchanges=20, warmup=0.2, decay="cosine")
    rates = [learning_rate(chosen, exchange) for exchange in range(20)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[12] == pytest.approx(0.25)  # halfway between the fifth and the end
    assert rates[19] == pytest.approx(0.25 * (1 + math.cos(math.pi * 15 / 16)))
    steady = settings(exchanges=20, warmup=0.2)
    assert [learning_rate(steady, exchange) for exchange in (0, 3, 4, 19)] == [0.1, 0.4, 0.5, 0.5]
    assert learning_rate(settings(exchanges=20), 0) == 0.5


def test_a_warm_up_of_nearly_everything_or_nearly_nothing() -> None:
    for exchanges, warmup in ((3, 0.999), (1, 0.9), (2, 0.01)):
        chosen = settings(exchanges=exchanges, warmup=warmup, decay="cosine")
        rates = [learning_rate(chosen, exchange) for exchange in range(exchanges)]
        assert all(0 < rate <= 0.5 for rate in rates)


def test_each_client_s_gradient_is_shortened_by_itself_and_a_temperature_is_not() -> None:
    long, short = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 2))
    tau = nn.Parameter(torch.tensor(0.0))
    descent = Descent("x", [[long, tau], [short]], [], settings(clip=1.0, learning_rate=1.0))
    total = long @ torch.tensor([30.0, 40.0]) + (short @ torch.tensor([0.3, 0.4])).sum() + 7 * tau
    descent.step(total, 0)
    np.testing.assert_allclose(long.detach(), [-0.6, -0.8], atol=1e-6)
    np.testing.assert_allclose(short.detach(), [[-0.3, -0.4]], atol=1e-7)
    assert tau.item() == -7


def test_variance_is_a_hinge_and_covariance_sees_no_diagonal() -> None:
    wide = 3 * torch.randn(500, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert variance_loss(wide).item() == 0
    assert variance_loss(torch.ones(5, 3)).item() == pytest.approx(1 - 0.01)
    column = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    apart = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)
    assert covariance_loss(torch.cat([column, apart], 1)).item() == 0
    assert covariance_loss(torch.cat([column, column], 1)).item() == pytest.approx((4 / 3) ** 2)
    assert covariance_loss(column).item() == 0
    matrix = np.cov(wide.numpy(), rowvar=False)
    expected = (matrix**2).sum() - (np.diagonal(matrix) ** 2).sum()
    assert covariance_loss(wide).item() == pytest.approx(expected / 4)


@pytest.mark.parametrize("loss", [variance_loss, covariance_loss])
def test_a_gradient_where_all_events_coincide_is_finite(loss: Any) -> None:
    z = torch.ones(4, 3, requires_grad=True)
    loss(z).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
