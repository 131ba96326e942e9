"""The gates of a translator: the graph's search must find what the network's own finds, text by
text, and translate the test set as well."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import torch

from export.errors import AccuracyRefused
from export.onnx_model import Feed, Outputs
from export.samples import Samples, extreme_texts, real
from serving.passport import SampleKind, TranslationProof
from serving.types import Array
from training import beam_search, bleu
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset
from training.models.translator import Translator
from training.tasks import BEAMS
from training.tokens import PADDING, UNKNOWN, longest

Searcher: TypeAlias = Callable[[Feed], Outputs]

BATCH = 16
# Points of BLEU: where two hypotheses are all but equal, sums of another order choose the other.
ROUNDING = 0.1


@dataclass(frozen=True, slots=True)
class Searched:
    """Texts, and by how many beams each is to be translated: (N, 1)."""

    texts: Samples
    beams: Array

    @property
    def kind(self) -> SampleKind:
        return self.texts.kind

    @property
    def names(self) -> tuple[str, ...]:
        return self.texts.names

    def batch(self, rows: slice) -> Feed:
        return feed(self.texts.batch(rows), self.beams[rows])

    def alone(self, index: int) -> Feed:
        return feed(self.texts.alone(index), self.beams[index : index + 1])


def feed(ids: Array, beams: Array) -> Feed:
    """Where the mask leaves out padding there is a token, which is not to be read."""
    mask = ids != PADDING
    shown = np.where(mask, ids, UNKNOWN)
    return {"input_ids": shown, "attention_mask": mask.astype(np.int64), "beams": beams}


def samples(dataset: Dataset, checkpoint: Checkpoint, count: int) -> tuple[Searched, Searched]:
    """Test texts and those that data rarely holds, greedily and by beams of several widths in
    turn."""
    vocabulary = int(checkpoint.architecture_config["vocabulary"])
    extreme = extreme_texts(vocabulary, longest(checkpoint.tokenizer), count)
    beams = np.resize([1, BEAMS, 2, BEAMS + 1], (count, 1))
    return Searched(real(dataset.test_x, count), beams), Searched(extreme, beams)


def reference(checkpoint: Checkpoint) -> Searcher:
    """The network by itself, each text alone, without a graph, a cache or any padding."""
    model = checkpoint.build()
    assert isinstance(model, Translator)
    limit = longest(checkpoint.tokenizer)

    @cache  # the gate asks for each row once for each size of its batches
    def search(ids: tuple[int, ...], beams: int) -> tuple[Array, float]:
        found = beam_search.translate(model, torch.tensor(ids), beams, limit)
        return np.pad(np.array(found.tokens), (0, limit - len(found.tokens))), found.score

    def run(given: Feed) -> Outputs:
        rows = zip(given["input_ids"], given["attention_mask"], given["beams"], strict=True)
        found = [search(_shown(ids, mask), int(beams[0])) for ids, mask, beams in rows]
        return {
            "output_ids": np.stack([tokens for tokens, _ in found]),
            "score": np.array([[score] for _, score in found], np.float32),
        }

    return run


def _shown(ids: Array, mask: Array) -> tuple[int, ...]:
    """A text up to its last token; of one without any, the padding of one."""
    length = max(1, 1 + int(np.flatnonzero(mask).max(initial=0)))
    return tuple(np.where(mask, ids, PADDING)[:length].tolist())


def check_bleu(candidate: Searcher, dataset: Dataset, checkpoint: Checkpoint) -> TranslationProof:
    """BLEU over the whole test set; AccuracyRefused if it is less than stated."""
    stated = checkpoint.metrics.get("test_bleu")
    if stated is None:
        raise AccuracyRefused("the checkpoint states no test BLEU to hold the export against")
    by_beams, greedy = (score(candidate, dataset, checkpoint, beams) for beams in (BEAMS, 1))
    if not by_beams.score >= stated - ROUNDING:
        raise AccuracyRefused(
            f"ONNX Runtime has a BLEU of {by_beams.score:.2f} over the test texts, less than the "
            f"checkpoint's {stated:.2f}"
        )
    return TranslationProof(
        value=by_beams.score,
        greedy=greedy.score,
        beams=BEAMS,
        n=len(dataset.test_y),
        signature=by_beams.signature,
        checkpoint=stated,
    )


def score(candidate: Searcher, dataset: Dataset, checkpoint: Checkpoint, beams: int) -> bleu.Bleu:
    """Of the test set, as `beams` translate it."""
    found = []
    for start in range(0, len(dataset.test_x), BATCH):
        ids = dataset.test_x[start : start + BATCH]
        found.append(candidate(feed(ids, np.full((len(ids), 1), beams)))["output_ids"])
    translations, references = (
        bleu.texts(checkpoint.tokenizer, torch.tensor(ids))
        for ids in (np.concatenate(found), dataset.test_y)
    )
    return bleu.corpus(translations, references)
