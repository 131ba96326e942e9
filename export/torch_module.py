"""A torch module of somebody's own: built by a callable of theirs, with weights out of a file.

The callable is code of the person who exports and runs as such. The weights may come from anywhere:
they are read as tensors alone, and nothing in the file is ever executed.
"""

import pickle
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from export.errors import GateRefused, ModuleRefused
from export.onnx_model import Feed, Outputs
from serving.types import Array

# Under which of these names a training script keeps the weights among other things.
_NESTED: Final = ("state_dict", "model_state_dict", "model")


def build(reference: str) -> nn.Module:
    """What the callable `package.module:callable` returns, in eval mode. The module is looked for
    in the working directory as well. Raises ModuleRefused."""
    place, _, name = reference.partition(":")
    # As `python -m` has it, and a console script has not; to stay, since calls import as well.
    sys.path.insert(0, str(Path.cwd()))
    try:
        builds = attrgetter(name)(import_module(place))
        if isinstance(builds, nn.Module):
            raise ModuleRefused(f"{reference}: is a torch module, not a callable that returns one")
        made = builds()
        if not isinstance(made, nn.Module):
            raise ModuleRefused(f"{reference}: returns a {type(made).__name__}, not a torch module")
        return made.eval()
    except ModuleRefused:
        raise
    except (Exception, SystemExit) as error:  # whatever the code of others raises
        raise ModuleRefused(f"{reference}: {type(error).__name__}: {error}") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Gives `model` the weights in the file, all of them and no others. Raises ModuleRefused."""
    weights = _read(path)
    for name in _NESTED:
        if isinstance(weights, Mapping) and isinstance(weights.get(name), Mapping):
            weights = weights[name]
    if not isinstance(weights, Mapping) or not all(
        isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()
    ):
        raise ModuleRefused(
            f"{path}: holds no weights by name; save them by torch.save(model.state_dict(), ...)"
        )
    try:
        model.load_state_dict(dict(weights))
    except Exception as error:  # torch's own, or what a module of others raises
        raise ModuleRefused(
            f"{path}: does not fit the module: {error}{_prefixed(model, weights)}"
        ) from error


def _prefixed(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """What to do about the names of weights that would fit but for how they begin."""
    first, dot, _ = next(iter(weights), "").partition(".")
    prefix = first + dot
    if {name.removeprefix(prefix) for name in weights} != model.state_dict().keys():
        return ""
    return (
        f"\nIts names begin with {prefix!r}, as DataParallel and trainers save them, and would fit "
        "without: save those of the module inside"
    )


def _read(path: Path) -> Any:
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it takes the file for is told here
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModuleRefused(
            f"{path}: holds more than weights, or is damaged, and is not unpickled, which could "
            "execute anything: save the weights alone, by torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # a damaged file: whatever the reader trips over
        if "TorchScript" in str(error):  # of which torch says to have it executed
            why = "it is of TorchScript, which holds code: save the weights alone"
        else:
            why = f"torch did not save it so ({type(error).__name__}: {error})"
        raise ModuleRefused(f"{path}: cannot be read as weights: {why}") from error


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # a damaged file: whatever the reader trips over
        raise ModuleRefused(f"{path}: cannot be read as weights: {error}") from error


class Flat(nn.Module):
    """Gives a tuple of tensors whatever way the module gives them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(_by_name(self.module(*inputs)).values())


def runner(module: nn.Module, names: Sequence[str]) -> Callable[[Feed], Outputs]:
    """`module` as a function from arrays, in the order of its arguments, to its outputs.

    They go by `names`, or without any by their own. GateRefused where it cannot run, ModuleRefused
    where it gives anything but tensors, or not as many."""

    def run(feed: Feed) -> Outputs:
        try:
            with torch.inference_mode():
                answer = module(*(torch.tensor(array) for array in feed.values()))
        except (Exception, SystemExit) as error:  # whatever the code of others raises
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
            raise GateRefused(f"the module cannot run on {shapes}: {error}") from error
        found = _checked(answer)
        if names and len(names) != len(found):
            raise ModuleRefused(
                f"--output names {len(names)}, and the module gives {len(found)}: "
                f"{', '.join(found)}"
            )
        return {
            name: _array(name, each)
            for name, each in zip(names or found, found.values(), strict=True)
        }

    return run


def _array(name: str, output: Tensor) -> Array:
    try:
        array: Array = output.detach().numpy()
    except (TypeError, RuntimeError) as error:  # of types and layouts that numpy has not
        raise ModuleRefused(
            f"the module gives {name} as {output.dtype} of the layout {output.layout}, which "
            "cannot be compared: give it as float32, and dense"
        ) from error
    return array


def _checked(answer: Any) -> Mapping[str, Tensor]:
    tensors = isinstance(answer, Tensor | Mapping | tuple | list)
    found = _by_name(answer) if tensors else {"output": answer}
    if not found or not all(isinstance(each, Tensor) for each in found.values()):
        kinds = ", ".join(type(each).__name__ for each in found.values()) or "nothing"
        raise ModuleRefused(
            f"the module gives {kinds}; it must give tensors: one, several in a row, or by name"
        )
    return found


def _by_name(answer: Any) -> Mapping[str, Tensor]:
    if isinstance(answer, Tensor):
        return {"output": answer}
    if isinstance(answer, Mapping):
        return {str(name): each for name, each in answer.items()}
    return {f"output_{place}": each for place, each in enumerate(answer)}
