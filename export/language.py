"""A language model as it is served: one step of generation, over a cache of what came before.

The graph, for heads H of D numbers, a context of T places and a vocabulary of V:

input_ids        INT64 [batch, length]      tokens that follow what is in the cache
positions        INT64 [batch]              the place of each row's first one, from 0 on
past.N.key       FP32  [batch, H, T, D]     of layer N: the cache of each row, a ring
past.N.value     FP32  [batch, H, T, D]     in which place p of the text is at p modulo T
logits           FP32  [batch, length, V]   of the token that follows each of them
new.N.key        FP32  [batch, H, length, D]  what is to be put into the ring for them
new.N.value      FP32  [batch, H, length, D]

Rows have nothing to do with each other: each is at a place of its own, and what its ring holds of
other texts, or of nothing yet, is not looked at. A row that has fewer tokens than `length` is
padded on the right, with anything: no token looks ahead, and what is new of the padding is not to
be kept. `length` is at most T. A token attends to itself and to the T - 1 places before it, so that
a text may go on for as long as anybody likes.

The graph leaves the ring as it is and gives what is new, which is T times less than the whole: who
serves it holds one array for each `past`, and writes a few numbers of it after each step.
"""

import torch
from torch import Tensor, nn

from training.checkpoint import Checkpoint
from training.models.gpt import Block, Gpt, rotations
from training.spec import Signature, TensorField

IDS, POSITIONS, LOGITS = "input_ids", "positions", "logits"


class Step(nn.Module):
    """Tokens (B, S), their places (B,) and each layer's keys and values (B, H, T, D) to the logits
    (B, S, V) and to the keys and values (B, H, S, D) of these tokens."""

    def __init__(self, model: Gpt) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, positions: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        steps = torch.arange(ids.shape[1])
        places = positions[:, None] + steps  # (B, S)
        turns = rotations(places, model.head_width)[:, :, None]  # (2, B, 1, S, D / 2)
        attended = _attended(places, positions, steps, model.context)
        x = model.embedding(ids)
        new: list[Tensor] = []
        for index, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            queries, keys, values = block.project(x, turns)
            mixed = _attend(queries, keys, values, past[2 * index : 2 * index + 2], attended)
            x = block.add(x, mixed)
            new += (keys, values)
        return (model.logits(x), *new)


def _attended(places: Tensor, positions: Tensor, steps: Tensor, context: int) -> Tensor:
    """Which of the ring and of the new tokens each new one attends to: (B, 1, S, T + S)."""
    # The last place before the new ones that is at each index of the ring; below 0: none yet.
    last = positions[:, None] - 1
    held = last - torch.remainder(last - torch.arange(context), context)  # (B, T)
    near = held[:, None] > places[:, :, None] - context  # (B, S, T)
    past = near & (held >= 0)[:, None]
    causal = (steps <= steps[:, None]).expand_as(places[:, :, None] + steps)  # (B, S, S)
    return torch.cat((past, causal), dim=2)[:, None]


def _attend(
    queries: Tensor, keys: Tensor, values: Tensor, past: tuple[Tensor, ...], attended: Tensor
) -> Tensor:
    """What the heads mix, (B, H, S, D), the ring and the new apart: to join them would copy it."""
    past_keys, past_values = past
    queries = queries * queries.shape[3] ** -0.5
    scores = torch.cat(
        (queries @ past_keys.transpose(2, 3), queries @ keys.transpose(2, 3)), dim=3
    )  # (B, H, S, T + S)
    shares = scores.masked_fill(~attended, float("-inf")).softmax(dim=3)
    context = past_keys.shape[2]
    return shares[..., :context] @ past_values + shares[..., context:] @ values


def step(checkpoint: Checkpoint) -> tuple[Step, Signature]:
    """The trained network as one step, in eval mode, and what its graph takes and gives."""
    model = checkpoint.build()
    assert isinstance(model, Gpt)
    ring, new = (
        (model.heads, size, model.head_width) for size in (model.context, -1)
    )  # (H, T or length, D)
    cached = [f"{index}.{part}" for index in range(len(model.blocks)) for part in ("key", "value")]
    signature = Signature(
        inputs=(
            TensorField(IDS, "INT64", (-1,)),
            TensorField(POSITIONS, "INT64", ()),
            *(TensorField(f"past.{name}", "FP32", ring) for name in cached),
        ),
        outputs=(
            TensorField(LOGITS, "FP32", (-1, model.embedding.num_embeddings)),
            *(TensorField(f"new.{name}", "FP32", new) for name in cached),
        ),
    )
    return Step(model).eval(), signature
