"""What an engine leaves to the one after it, of what clients have loaded."""

from pathlib import Path

import numpy as np

from serving.dtypes import Datatype
from serving.engine.base import Engine
from serving.engine.embedded import EmbeddedEngine
from serving.settings import ModelControlMode, Settings
from serving.types import InferenceRequest, LoadOverride, Tensor
from serving.workers.recovery import LastingModels, Ledgers, restore_models
from tests import adders


async def answer(engine: Engine) -> float:
    one = Tensor("x", Datatype.FP32, np.ones((1, 1), np.float32))
    response = await engine.infer(InferenceRequest("a", (one,)))
    return float(response.outputs[0].array.item())


async def test_files_that_a_plain_load_has_replaced_are_not_loaded_again(tmp_path: Path) -> None:
    adders.add(tmp_path, "a", 1)
    settings = Settings(model_repository=(tmp_path,), model_control_mode=ModelControlMode.EXPLICIT)
    ledgers = Ledgers()
    inner = EmbeddedEngine(settings)
    await inner.start()
    engine = LastingModels(inner, ledgers.models).engine
    await engine.load(
        "a", LoadOverride(adders.config_json(max_batch_size=2), {"1/model.onnx": adders.graph(5)})
    )
    assert await answer(engine) == 6
    await engine.load("a", LoadOverride())
    assert await answer(engine) == 2
    await engine.close()

    inner = EmbeddedEngine(settings)
    await inner.start()
    await restore_models(inner, ledgers.models)

    assert await answer(inner) == 2
    assert (await inner.model_config("a")).max_batch_size == 2
    await inner.close()
    ledgers.close()
