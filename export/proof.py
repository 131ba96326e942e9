"""The passport of what was made of a checkpoint."""

from datetime import UTC, datetime
from typing import Any

from export import provenance
from serving.passport import (
    AccuracyProof,
    DatasetProof,
    ErrorProof,
    Measured,
    Passport,
    TranslationProof,
)
from training.checkpoint import Checkpoint


def of_checkpoint(
    checkpoint: Checkpoint,
    name: str,
    opset: int,
    measured: Measured,
    gates: dict[str, Any],
    version: int,
    files: dict[str, str],
) -> Passport:
    """`gates` are the further proofs, by the passport's names for them."""
    return Passport(
        model=name,
        version=version,
        files=files,
        weights_sha256=checkpoint.weights_sha256,
        architecture=checkpoint.architecture,
        parameters=sum(weights.numel() for weights in checkpoint.build().parameters()),
        recipe=checkpoint.recipe,
        seed=checkpoint.seed,
        dataset=DatasetProof(name=checkpoint.dataset_name, sha256=checkpoint.dataset_sha256),
        task=checkpoint.task,
        accuracy=measured if isinstance(measured, AccuracyProof) else None,
        error=measured if isinstance(measured, ErrorProof) else None,
        translation=measured if isinstance(measured, TranslationProof) else None,
        opset=opset,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=provenance.commit(),
        versions=provenance.versions(),
        **gates,
    )
