"""Weights that go back to their slow average."""

import pytest
import torch
from torch import nn

from training.lookahead import MEMORY, Lookahead


@pytest.mark.parametrize(("share", "weight"), [(0.0, 1.0), (1.0, 1 - MEMORY**5)])
def test_weights_are_pulled_to_where_they_were_the_more_the_later_it_is(
    share: float, weight: float
) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    slow = Lookahead(model)
    nn.init.ones_(model.weight)
    slow.pull(5, share)
    assert model.weight.item() == pytest.approx(weight)


def test_behind_a_pull_the_weights_are_the_average() -> None:
    model = nn.Linear(3, 3)
    slow = Lookahead(model)
    nn.init.normal_(model.weight)
    slow.pull(5, 1.0)
    pulled = model.weight.clone()
    slow.pull(5, 1.0)
    torch.testing.assert_close(model.weight, pulled)
