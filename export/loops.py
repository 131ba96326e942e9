"""Two ONNX graphs as one: what comes before a loop, and its steps."""

from dataclasses import dataclass
from typing import Final

import onnx
from onnx import compose, helper, numpy_helper

STEP: Final = "step"
GOES_ON: Final = "goes_on"
MOST: Final = "most"


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of at most `most` steps. Each takes its number and the `state`, and gives whether to
    go on and the state anew; all look at what was `seen` before the first. Of the last state the
    `results` leave the graph."""

    state: tuple[str, ...]
    seen: tuple[str, ...]
    results: tuple[str, ...]
    most: int

    @property
    def begins_with(self) -> tuple[str, ...]:
        """The outputs of the graph before the loop."""
        return (*(f"first.{name}" for name in self.state), *self.seen)

    @property
    def takes(self) -> tuple[str, ...]:
        """The inputs of the graph of a step."""
        return (STEP, *self.state, *self.seen)

    @property
    def gives(self) -> tuple[str, ...]:
        """The outputs of the graph of a step."""
        return (GOES_ON, *(f"next.{name}" for name in self.state))


def joined(before: onnx.ModelProto, step: onnx.ModelProto, loop: Loop) -> onnx.ModelProto:
    """`before` with the loop behind it; what both weigh with the same numbers is there once."""
    step = compose.add_prefix(step, "step/", rename_inputs=False, rename_outputs=False)
    inputs = {each.name: each for each in step.graph.input}
    outputs = {each.name: each for each in step.graph.output}
    told = helper.make_tensor_value_info("told", onnx.TensorProto.BOOL, [])  # what GOES_ON was
    graph = before.graph
    weights = _own_weights(step.graph, graph)
    body = helper.make_graph(
        list(step.graph.node),
        "steps",
        [inputs[STEP], told, *(inputs[name] for name in loop.state)],
        [outputs[name] for name in loop.gives],
    )
    begins = [f"first.{name}" for name in loop.state]
    ends = [name if name in loop.results else f"last.{name}" for name in loop.state]
    graph.node.append(helper.make_node("Loop", [MOST, "", *begins], ends, body=body))
    most = helper.make_tensor(MOST, onnx.TensorProto.INT64, [], [loop.most])
    graph.initializer.extend([*weights, most])
    del graph.output[:]
    for name in loop.results:
        graph.output.append(outputs[f"next.{name}"])
        graph.output[-1].name = name
    return before


def _own_weights(step: onnx.GraphProto, before: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Those of `step` that `before` has not; of the others its nodes take the equal ones."""
    known = {_content(each): each.name for each in before.initializer}
    same = {
        each.name: known[content]
        for each in step.initializer
        if (content := _content(each)) in known
    }
    for node in step.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    return [each for each in step.initializer if each.name not in same]


def _content(weights: onnx.TensorProto) -> tuple[object, ...]:
    return weights.data_type, *weights.dims, numpy_helper.to_array(weights).tobytes()
