"""Of two faults, which one is told: as Triton has it, that of the model before the request's."""

from serving.engine.base import Engine
from serving.errors import Decoupled


async def tell_of_the_model(engine: Engine, model: str, version: str) -> None:
    """NotFound if there is no such model, Decoupled if it cannot be asked for one response."""
    config = await engine.model_config(model, version)
    if config.model_transaction_policy.decoupled:
        raise Decoupled.asked_over("A request for one response")
