"""BLEU, as sacrebleu has it: how much of translations is in those that people wrote."""

from dataclasses import dataclass

from tokenizers import Tokenizer
from torch import Tensor

from training.tokens import END


@dataclass(frozen=True, slots=True)
class Bleu:
    """From 0 to 100. `signature` says how texts were cut and counted: figures of one signature can
    be compared."""

    score: float
    signature: str


def corpus(translations: list[str], references: list[str]) -> Bleu:
    """Of all texts together, one reference each."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU()
    score = metric.corpus_score(translations, [references]).score
    return Bleu(score, str(metric.get_signature()))


def texts(tokenizer: str, ids: Tensor) -> list[str]:
    """What is written in the numbers (N, T) up to the end of each, by a `tokenizer.json`."""
    rows = [_until_end(row) for row in ids.tolist()]
    decoded: list[str] = Tokenizer.from_str(tokenizer).decode_batch(rows)
    return decoded


def _until_end(row: list[int]) -> list[int]:
    return row[: row.index(END)] if END in row else row
