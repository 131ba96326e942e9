"""Recurrent layers as ONNX has them: torch's exporter translates an LSTM, but no GRU and no RNN."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# By layer: ONNX's operator, and the places of torch's gates in ONNX's order.
OPERATORS: dict[type[nn.RNNBase], tuple[str, tuple[int, ...]]] = {
    nn.RNN: ("RNN", (0,)),
    nn.GRU: ("GRU", (1, 0, 2)),  # reset, update, new -> update, reset, hidden
    nn.LSTM: ("LSTM", (0, 3, 1, 2)),  # input, forget, cell, output -> input, output, forget, cell
}
SINCE = 14  # the opset that these operators are written in


class Operator(nn.Module):
    """One layer in one direction, (B, T, I) to the states (B, T, H); there is no last state."""

    weights: Tensor
    recurrence: Tensor
    bias: Tensor

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.operator, order = OPERATORS[type(layer)]
        self.hidden = layer.hidden_size

        def in_order(parameter: Tensor) -> Tensor:
            gates = parameter.detach().chunk(len(order))
            return torch.cat([gates[place] for place in order])[None]

        weights, recurrence, *biases = map(in_order, layer.all_weights[0])
        self.register_buffer("weights", weights)
        self.register_buffer("recurrence", recurrence)
        self.register_buffer("bias", torch.cat(biases, dim=1))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        batch, time, _ = x.shape
        # torch's GRU multiplies by the reset gate behind the matrix.
        more = {"linear_before_reset": 1} if self.operator == "GRU" else {}
        states = torch.onnx.ops.symbolic(
            self.operator,
            (x.transpose(0, 1), self.weights, self.recurrence, self.bias),
            {"hidden_size": self.hidden, **more},
            dtype=x.dtype,
            shape=(time, 1, batch, self.hidden),
            version=SINCE,
        )
        return states.squeeze(1).transpose(0, 1), None


def replace(model: nn.Module) -> nn.Module:
    """`model` itself, with an operator in the place of each recurrent layer that can be one."""
    for name, layer in _layers(model):
        model.set_submodule(name, Operator(layer))
    return model


@contextmanager
def replaced(model: nn.Module) -> Iterator[nn.Module]:
    """The same for the block: of a module of others, which may keep anything, there is no copy."""
    layers = _layers(model)
    try:
        yield replace(model)
    finally:
        for name, layer in layers:
            model.set_submodule(name, layer)


def _layers(model: nn.Module) -> list[tuple[str, nn.RNNBase]]:
    """Those inside of `model`, by each of their names."""
    named = model.named_modules(remove_duplicate=False)
    return [
        (name, layer)
        for name, layer in named
        if name and isinstance(layer, nn.RNNBase) and _is_plain(layer)
    ]


def _is_plain(layer: nn.RNNBase) -> bool:
    """One layer, one direction, batch first, with biases and without a projection; RNNs: tanh."""
    plain = layer.num_layers == 1 and not layer.bidirectional and layer.batch_first and layer.bias
    return plain and not layer.proj_size and layer.mode != "RNN_RELU"
