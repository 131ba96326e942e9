"""Variants as `penstock export --variants` leaves them, of whatever model there is."""

import json
import shutil
from pathlib import Path
from typing import Any

SPREAD = {"median": 1.0, "lower": 0.9, "upper": 1.1}


def add_variant(repository: Path, model: str, name: str, **changed: Any) -> None:
    """A copy of `model` that says of itself to be of int8; `changed` of what it says."""
    folder = repository / name
    shutil.copytree(repository / model, folder)
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace(f'name: "{model}"', f'name: "{name}"', 1))
    file = folder / "1" / "passport.json"
    passport = json.loads(file.read_text())
    speed = dict.fromkeys(("fp32_microseconds", "variant_microseconds", "speedup"), SPREAD)
    proof = {
        "precision": "int8",
        "method": "static",
        "calibration_n": 512,
        "fp32_sha256": passport["files"]["model.onnx"],
        "fp32_value": 0.98,
        "loss": 0.25,
        "max_loss": 0.5,
        "speed": [{"batch_size": 1, "n": 100, **speed}],
        "machine": "here",
    }
    file.write_text(json.dumps(passport | {"model": name, "variant": proof | changed}))
