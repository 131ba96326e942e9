"""A translator as it is served: one graph that reads texts and searches for their translations.

The graph, of a network that reads and writes texts of at most L tokens:

input_ids       INT64 [batch, length]  texts, padded on the right; of longer ones the first L tokens
attention_mask  INT64 [batch, length]  0 over the padding
beams           INT64 [batch, 1]       hypotheses that each row's search keeps; 1 is greedy
output_ids      INT64 [batch, L]       the best translation, with its end, padded on the right
score           FP32  [batch, 1]       the mean log-probability of its tokens

It is the search of `training.beam_search`, for all rows at once: what `Reading` makes of the texts,
then a loop of the graph over `Step` that ends with the last row. Rows have nothing to do with each
other: all have as many slots as the row with the most beams, but each chooses from its own alone.
What slots have attended to is kept, so that a step reads one token of each.
"""

from collections.abc import Sequence
from typing import Final

import onnx
import torch
from torch import Tensor, nn

from export import exporter
from export.loops import Loop, joined
from training.beam_search import NEVER_WRITTEN
from training.checkpoint import Checkpoint
from training.models.encoder import positions
from training.models.translator import DecoderBlock, Translator
from training.tokens import END, PADDING, START, longest

MOST_BEAMS: Final = 8
NEVER: Final = float("-inf")  # the logarithm of no chance at all

TAKES: Final = ("input_ids", "attention_mask", "beams")
GIVES: Final = ("output_ids", "score")

# Which dimensions vary, of what the parts of the graph take.
_BATCH, _LENGTH, _BEAMS = (torch.export.Dim(name) for name in ("batch", "length", "beams"))
READING: Final = ({0: _BATCH, 1: _LENGTH}, {0: _BATCH, 1: _LENGTH}, {0: _BATCH})
ROWS: Final = {0: _BATCH}
SLOTS: Final = {0: _BATCH, 1: _BEAMS}
SHOWN: Final = {0: _BATCH, 3: _LENGTH}
READ: Final = {0: _BATCH, 2: _LENGTH}

Attended = Sequence[Tensor]  # keys and values (..., places, D)


class Reading(nn.Module):
    """Numbers of tokens (B, S), their mask, and beams (B, 1) to the state that a search begins with
    and to what each of its steps looks at; see `Step`."""

    def __init__(self, model: Translator, longest: int) -> None:
        super().__init__()
        self.model = model
        self.longest = longest

    def forward(self, ids: Tensor, mask: Tensor, beams: Tensor) -> tuple[Tensor, ...]:
        memory = self.model.encode(torch.where(mask != 0, ids, PADDING)[:, : self.longest])
        own = beams.clamp(1, MOST_BEAMS)
        most = own.max().item()
        torch._check(most >= 1)  # type: ignore[no-untyped-call]
        slots = torch.arange(most)
        rows, width = ids.shape[0], slots.shape[0]
        place = torch.arange(self.longest + 1)
        tokens = torch.where(place == 0, START, PADDING).expand(rows, width, -1)
        totals = torch.where(slots == 0, 0.0, NEVER).expand(rows, -1)
        best = torch.full((rows, self.longest), PADDING), torch.zeros(rows, 1)
        sources = [
            part
            for block in _blocks(self.model)
            for part in block.source.keys_values(memory.states)
        ]
        heads, size = sources[0].shape[1], sources[0].shape[3]
        kept = [torch.zeros(rows, width, heads, self.longest, size) for _ in sources]
        return (tokens, totals, *best, *kept, own, memory.attended, *sources)


class Step(nn.Module):
    """One step of the search, for B rows of K slots.

    Its state are the tokens (B, K, 1 + L) that are written in each slot, from START on, the sums of
    their log-probabilities (B, K), the best translation of each row (B, L) and its score (B, 1),
    and each block's keys and values (B, K, heads, L, D) of what is written. It looks at the rows'
    own beams (B, 1), at which places of the texts are tokens (B, 1, 1, S), and at each block's keys
    and values (B, heads, S, D) of them."""

    after_end: Tensor
    allowed: Tensor
    places: Tensor

    def __init__(self, model: Translator, longest: int) -> None:
        super().__init__()
        self.model = model
        self.longest = longest
        vocabulary, width = model.embedding.weight.shape
        numbers = torch.arange(vocabulary)
        forbidden = torch.isin(numbers, torch.tensor(NEVER_WRITTEN))
        self.register_buffer("allowed", torch.where(forbidden, NEVER, 0.0))
        # Behind its end a translation goes on with padding, which costs nothing.
        self.register_buffer("after_end", torch.where(numbers == PADDING, 0.0, NEVER))
        self.register_buffer("places", positions(torch.empty(1, longest, width)))

    def forward(
        self,
        step: Tensor,
        tokens: Tensor,
        totals: Tensor,
        best: Tensor,
        score: Tensor,
        kept: Sequence[Tensor],
        own: Tensor,
        shown: Tensor,
        sources: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Whether to go on, and the state behind this step, which is made anew of all but the best
        so far."""
        last = tokens.index_select(2, step[None])[:, :, 0]  # (B, K)
        logits, kept = self._decode(last, step, kept, shown, sources)
        chances = logits.log_softmax(dim=2) + self.allowed
        tokens, totals, origins = self._choose(chances, step, tokens, totals)
        totals = torch.where(torch.arange(totals.shape[1]) < own, totals, NEVER)
        kept = [each.flatten(0, 1).index_select(0, origins).view_as(each) for each in kept]
        over = _ended(tokens) | (totals == NEVER)
        best = tokens[:, 0, 1:]
        score = totals[:, :1] / (best != PADDING).sum(dim=1, keepdim=True)
        return (~over.all(), tokens, totals, best, score, *kept)

    def _decode(
        self,
        last: Tensor,
        step: Tensor,
        kept: Sequence[Tensor],
        shown: Tensor,
        sources: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """The logits (B, K, V) of what follows the token of each slot (B, K), and what is kept with
        that token."""
        place = torch.arange(self.longest)
        now, past = (place == step)[:, None], place <= step
        x = self.model.embed(last) + self.places.index_select(0, step[None])
        grown: list[Tensor] = []
        for index, block in enumerate(_blocks(self.model)):
            pair = slice(2 * index, 2 * index + 2)
            token = block.before_itself(x).flatten(0, 1)[:, None]  # (B * K, 1, C)
            added = zip(block.itself.keys_values(token), kept[pair], strict=True)
            grown += (torch.where(now, new.view_as(old[..., :1, :]), old) for new, old in added)
            attended = [each.flatten(0, 1) for each in grown[pair]]  # (B * K, heads, L, D)
            mixed = _attend(block.itself.queries(token), attended, past)
            x = x + block.itself.merge(mixed).view_as(x)
            queries = block.source.queries(block.before_source(x))  # (B, heads, K, D)
            x = x + block.source.merge(_attend(queries, sources[pair], shown))
            x = x + block.feed_forward(x)
        return self.model.logits(x), grown

    def _choose(
        self, chances: Tensor, step: Tensor, tokens: Tensor, totals: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best that the tokens can go on with by `chances` (B, K, V), their totals, and out of
        which slots they come (B * K,), all rows counted through."""
        ended = _ended(tokens)
        chances = torch.where(ended[:, :, None], self.after_end, chances)
        sums = totals[:, :, None] + chances
        lengths = torch.where(ended, (tokens != PADDING).sum(dim=2) - 1, step + 1)
        rows, slots, vocabulary = chances.shape
        best = (sums / lengths[:, :, None]).flatten(1).topk(slots, dim=1).indices  # (B, K)
        origin, token = best // vocabulary, best % vocabulary
        origins = (torch.arange(rows)[:, None] * slots + origin).flatten()
        tokens = tokens.flatten(0, 1).index_select(0, origins).view_as(tokens)
        now = torch.arange(self.longest + 1) == step + 1
        tokens = torch.where(now, token[:, :, None], tokens)
        return tokens, sums.flatten(1).gather(1, best), origins


def _blocks(model: Translator) -> list[DecoderBlock]:
    return [block for block in model.decoder if isinstance(block, DecoderBlock)]


def _ended(tokens: Tensor) -> Tensor:
    return (tokens == END).any(dim=2)


def _attend(queries: Tensor, attended: Attended, shown: Tensor) -> Tensor:
    """What the heads mix for the queries (B, heads, T, D) of the places that are `shown`."""
    keys, values = attended
    scores = (queries * queries.shape[3] ** -0.5) @ keys.transpose(2, 3)
    mixed: Tensor = scores.masked_fill(~shown, NEVER).softmax(dim=3) @ values
    return mixed


def convert(checkpoint: Checkpoint, opset: int) -> onnx.ModelProto:
    """The graph of the trained network. Raises ConversionFailed."""
    model = checkpoint.build()
    assert isinstance(model, Translator)
    limit = longest(checkpoint.tokenizer)
    loop = _loop(len(_blocks(model)), limit)
    reading, step = Reading(model, limit).eval(), Step(model, limit).eval()
    # Two rows: the exporter takes one for a constant, and one tensor that is given twice for one
    # input.
    text, mask, beams = (torch.full((2, size), 3, dtype=torch.int64) for size in (5, 5, 1))
    named = checkpoint.architecture
    before = exporter.convert(
        reading, (text, mask, beams), TAKES, loop.begins_with, READING, opset, named
    )
    begun = reading(text, mask, beams)
    parts = 2 * len(_blocks(model))
    kept, (own, shown, *sources) = begun[4 : 4 + parts], begun[4 + parts :]
    given = (torch.tensor(0), *begun[:4], kept, own, shown, tuple(sources))
    shapes = (None, SLOTS, SLOTS, ROWS, ROWS, (SLOTS,) * parts, ROWS, SHOWN, (READ,) * parts)
    steps = exporter.convert(step, given, loop.takes, loop.gives, shapes, opset, named)
    return joined(before, steps, loop)


def _loop(blocks: int, limit: int) -> Loop:
    parts = [f"{index}.{part}" for index in range(blocks) for part in ("key", "value")]
    return Loop(
        state=("tokens", "totals", *GIVES, *(f"written.{part}" for part in parts)),
        seen=("own", "shown", *(f"read.{part}" for part in parts)),
        results=GIVES,
        most=limit,
    )
