"""A model behind LitServe with batching, by its own documentation.

python litserve_app.py model.onnx 8000
"""

import sys
from collections.abc import Sequence
from typing import Any

import litserve  # type: ignore[import-not-found]
import numpy as np
import onnxruntime


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    """Normalised pixels (1, 28, 28) to probabilities."""

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            sys.argv[1], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict[str, Any]) -> Any:
        return np.array(request["image"], dtype=np.float32)

    def batch(self, inputs: Sequence[Any]) -> Any:
        return np.stack(inputs)

    def predict(self, batch: Any) -> Any:
        return self.session.run(["probabilities"], {"image": batch})[0]

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Classifier(max_batch_size=32, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", track_requests=False)
    port = int(sys.argv[2])
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")
