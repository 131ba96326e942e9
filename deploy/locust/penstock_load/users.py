"""The users: each speaks to the server in one way, and looks at every answer.

The official clients speak the protocol; what is ours beside it, `/predict` and streams of events,
is asked by the HTTP client that they are made of.
"""

import json
import random
from typing import Any, Final

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype

from penstock_load.addresses import credentials
from penstock_load.objectives import FIRST_EVENT
from penstock_load.options import samples_file
from penstock_load.plain_http import FORM, Client, form
from penstock_load.samples import Array, Sample, WrongAnswer, endless, is_close, read
from penstock_load.user import LoadUser

_ELEMENTS: Final = 8  # responses that a stream has
_DELAY_MS: Final = 1  # before each
_STREAM_INPUTS: Final = {"IN", "DELAY", "WAIT"}


class _SampleUser(LoadUser):
    """Asks for the samples of the model's file, one after the other."""

    abstract = True
    client: Any

    def read_samples(self, inputs: list[str]) -> None:
        """Take the samples up; ValueError or OSError where there is no fit file."""
        samples = read(samples_file(self.options), inputs, self.options.rows)
        self.samples = endless(samples, random.randrange(len(samples)))

    def close(self) -> None:
        self.client.close()


class RestBinaryUser(_SampleUser):
    """REST with binary tensors, by tritonclient."""

    protocol = "REST binary"
    is_binary = True

    def ready(self) -> None:
        self.client = tritonclient.http.InferenceServerClient(
            self.address.rest,
            concurrency=self.options.max_in_flight,
            connection_timeout=self.options.timeout,
            network_timeout=self.options.timeout,
            ssl=self.address.is_secure,
        )
        metadata = self.client.get_model_metadata(self.asked, headers=credentials(self.options))
        self.read_samples([tensor["name"] for tensor in metadata["inputs"]])

    def ask(self, due: float) -> int:
        sample = next(self.samples)
        inputs = []
        for name, array in sample.inputs.items():
            tensor = tritonclient.http.InferInput(
                name, array.shape, np_to_triton_dtype(array.dtype)
            )
            tensor.set_data_from_numpy(array, binary_data=self.is_binary)
            inputs.append(tensor)
        outputs = [
            tritonclient.http.InferRequestedOutput(name, binary_data=self.is_binary)
            for name in sample.expected
        ]
        headers = credentials(self.options)
        result = self.client.infer(self.asked, inputs, outputs=outputs, headers=headers)
        return _checked(sample, result)


class RestJsonUser(RestBinaryUser):
    """REST with tensors as JSON, by tritonclient."""

    protocol = "REST JSON"
    is_binary = False


class GrpcUser(_SampleUser):
    """gRPC, by tritonclient."""

    protocol = "gRPC"

    def ready(self) -> None:
        self.client = tritonclient.grpc.InferenceServerClient(
            self.address.grpc, ssl=self.address.is_secure
        )
        metadata = self.client.get_model_metadata(
            self.asked,
            headers=credentials(self.options),
            client_timeout=self.options.timeout,
        )
        self.read_samples([tensor.name for tensor in metadata.inputs])

    def ask(self, due: float) -> int:
        sample = next(self.samples)
        inputs = []
        for name, array in sample.inputs.items():
            tensor = tritonclient.grpc.InferInput(
                name, array.shape, np_to_triton_dtype(array.dtype)
            )
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        outputs = [tritonclient.grpc.InferRequestedOutput(name) for name in sample.expected]
        result = self.client.infer(
            self.asked,
            inputs,
            outputs=outputs,
            headers=credentials(self.options),
            client_timeout=self.options.timeout,
        )
        return _checked(sample, result)


def _checked(sample: Sample, result: Any) -> int:
    """The size of the outputs in bytes, once they are what the sample says."""
    size = 0
    for name in sample.expected:
        found = result.as_numpy(name)
        sample.check(name, found)
        size += found.nbytes
    return size


class ImageUser(_SampleUser):
    """Uploads PNG files to `/predict`, as a form with one file for each row."""

    protocol = "image upload"

    def ready(self) -> None:
        self.client = Client(self.address, self.options)
        metadata = self.client.get(f"/v2/models/{self.asked}")
        self.read_samples([tensor["name"] for tensor in metadata["inputs"]])
        sample = next(self.samples)
        sample.images()  # which fails where the samples are no images
        if len(sample.expected) != 1:
            told = ", ".join(sample.expected) or "none"
            raise ValueError(f"what is said of an image is one output of the samples, not {told}")

    def ask(self, due: float) -> int:
        sample = next(self.samples)
        [scores] = sample.expected.values()
        path = f"/predict/{self.asked}?top_k={scores.shape[-1]}"
        answer = self.client.post(path, FORM, form(sample.images()))
        for row, prediction in zip(scores, json.loads(answer)["predictions"], strict=True):
            _check_prediction(prediction, row, sample.labels)
        return len(answer)


def _check_prediction(prediction: Any, scores: Array, labels: tuple[str, ...]) -> None:
    """Raises WrongAnswer unless the classes are the scores', in their order and by their names."""
    order = np.argsort(-scores, kind="stable")
    found = [each["probability"] for each in prediction["classes"]]
    if len(found) != len(order) or not is_close(np.array(found), scores[order]):
        raise WrongAnswer("other probabilities than expected")
    if labels and prediction["label"] != labels[order[0]]:
        raise WrongAnswer(f"expected {labels[order[0]]!r}, got {prediction['label']!r}")


class StreamUser(LoadUser):
    """Asks a decoupled model for a stream of events: `repeat`, which gives back what it is sent.

    The report has the stream's whole time, and the time to its first event as a line of its own.
    """

    protocol = "stream"

    @property
    def asked(self) -> str:
        return str(self.options.stream_model)

    def ready(self) -> None:
        self.client = Client(self.address, self.options)
        metadata = self.client.get(f"/v2/models/{self.asked}")
        inputs = {tensor["name"] for tensor in metadata["inputs"]}
        if inputs != _STREAM_INPUTS:
            raise ValueError(
                f"--stream-model: '{self.asked}' takes {', '.join(sorted(inputs))}, and not "
                f"{', '.join(sorted(_STREAM_INPUTS))} as the backend `repeat` does"
            )

    def close(self) -> None:
        self.client.close()

    def ask(self, due: float) -> int:
        elements = [random.randrange(2**31) for _ in range(_ELEMENTS)]
        request = {"IN": elements, "DELAY": [_DELAY_MS] * _ELEMENTS, "WAIT": [0]}
        size = 0
        found: list[Any] = []
        for event in self.client.events(f"/v2/models/{self.asked}/generate_stream", request):
            if not found:
                self.report(FIRST_EVENT, due, len(event))
            size += len(event)
            found.append(json.loads(event).get("OUT"))
        if found != elements:
            raise WrongAnswer(f"expected {_ELEMENTS} elements as they were sent, got {found}")
        return size
