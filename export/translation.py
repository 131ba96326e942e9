"""A translator as it is served: one graph that reads texts and searches for their translations.

The graph, of a network that reads and writes texts of at most L tokens:

input_ids       INT64 [batch, length]  texts, padded on the right; of longer ones the first L tokens
attention_mask  INT64 [batch, length]  0 over the padding
beams           INT64 [batch, 1]       hypotheses that each row's search keeps; 1 is greedy
output_ids      INT64 [batch, L]       the best translation, with its end, padded on the right
score           FP32  [batch, 1]       the mean log-probability of its tokens

It is the search of `training.beam_search`, for all rows at once, in a loop of the graph that ends
with the last of them. Rows have nothing to do with each other: all have as many slots as the row
with the most beams, but each chooses from its own alone. What slots have attended to is kept, so
that a step reads one token of each.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch._higher_order_ops import while_loop

from training.beam_search import NEVER_WRITTEN
from training.checkpoint import Checkpoint
from training.models.encoder import positions
from training.models.translator import DecoderBlock, Memory, Translator
from training.tokens import END, PADDING, START, longest

MOST_BEAMS: Final = 8
NEVER: Final = float("-inf")  # the logarithm of no chance at all

Attended = tuple[Tensor, Tensor]  # keys and values (..., places, D)


class ServedTranslation(nn.Module):
    """Numbers of tokens (B, S), their mask, and beams (B, 1) to translations (B, L) and their
    scores (B, 1)."""

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

    def forward(self, ids: Tensor, mask: Tensor, beams: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.model.encode(torch.where(mask != 0, ids, PADDING)[:, : self.longest])
        sources = [_apart(block.source.keys_values(memory.states)) for block in self._blocks]
        own = beams.clamp(1, MOST_BEAMS)
        slots = _numbered(own)  # (K,)

        def goes_on(step: Tensor, tokens: Tensor, totals: Tensor, *_: Tensor) -> Tensor:
            over = _ended(tokens) | (totals == NEVER)
            return (step < self.longest) & ~over.all()

        def advance(
            step: Tensor, tokens: Tensor, totals: Tensor, *kept: Tensor
        ) -> tuple[Tensor, ...]:
            last = tokens.index_select(2, step[None])[:, :, 0]  # (B, K)
            logits, kept = self._decode(last, step, kept, sources, memory)
            chances = logits.log_softmax(dim=2) + self.allowed
            tokens, totals, origins = self._choose(chances, step, tokens, totals)
            totals = torch.where(slots < own, totals, NEVER)
            return (step + 1, tokens, totals, *(each.index_select(0, origins) for each in kept))

        rows, width = ids.shape[0], slots.shape[0]
        place = torch.arange(self.longest + 1)
        tokens = torch.where(place == 0, START, PADDING).expand(rows, width, -1).clone()
        totals = torch.where(slots == 0, 0.0, NEVER).expand(rows, -1).clone()
        heads, size = sources[0][0].shape[1], sources[0][0].shape[3]
        kept = [
            torch.zeros(rows * width, heads, self.longest, size) for _ in range(2 * len(sources))
        ]
        state = (torch.tensor(0), tokens, totals, *kept)
        _, tokens, totals, *_ = while_loop(goes_on, advance, state)  # type: ignore[no-untyped-call]
        best = tokens[:, 0, 1:]
        return best, totals[:, :1] / (best != PADDING).sum(dim=1, keepdim=True)

    @property
    def _blocks(self) -> list[DecoderBlock]:
        return [block for block in self.model.decoder if isinstance(block, DecoderBlock)]

    def _decode(
        self,
        last: Tensor,
        step: Tensor,
        kept: Sequence[Tensor],
        sources: Sequence[Attended],
        memory: Memory,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The logits (B, K, V) of what follows the token of each slot (B, K), and what is kept of
        all so far: keys and values (B * K, heads, L, D) of each block."""
        place = torch.arange(self.longest)
        now, past = (place == step)[:, None], place <= step
        x = self.model.embed(last) + self.places.index_select(0, step[None])
        grown: list[Tensor] = []
        for index, (block, source) in enumerate(zip(self._blocks, sources, strict=True)):
            token = block.before_itself(x).flatten(0, 1)[:, None]  # (B * K, 1, C)
            new = block.itself.keys_values(token)
            old = kept[2 * index : 2 * index + 2]
            keys, values = (torch.where(now, a, b) for a, b in zip(new, old, strict=True))
            mixed = _attend(block.itself.queries(token), (keys, values), past)
            x = x + block.itself.merge(mixed).view_as(x)
            queries = block.source.queries(block.before_source(x))  # (B, heads, K, D)
            x = x + block.source.merge(_attend(queries, source, memory.attended))
            x = x + block.feed_forward(x)
            grown += (keys, values)
        return self.model.logits(x), tuple(grown)

    def _choose(
        self, chances: Tensor, step: Tensor, tokens: Tensor, totals: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best that the tokens (B, K, 1 + L) can go on with by `chances` (B, K, V), their
        totals, and out of which slots they come (B * K,), all rows counted through."""
        ended = _ended(tokens)
        chances = torch.where(ended[:, :, None], self.after_end, chances)
        sums = totals[:, :, None] + chances
        lengths = torch.where(ended, (tokens != PADDING).sum(dim=2) - 1, step + 1)
        rows, width, vocabulary = chances.shape
        best = (sums / lengths[:, :, None]).flatten(1).topk(width, dim=1).indices  # (B, K)
        origin, token = best // vocabulary, best % vocabulary
        origins = (torch.arange(rows)[:, None] * width + origin).flatten()
        tokens = tokens.flatten(0, 1).index_select(0, origins).view_as(tokens)
        now = torch.arange(self.longest + 1) == step + 1
        tokens = torch.where(now, token[:, :, None], tokens)
        return tokens, sums.flatten(1).gather(1, best), origins


def _ended(tokens: Tensor) -> Tensor:
    return (tokens == END).any(dim=2)


def _numbered(beams: Tensor) -> Tensor:
    """Numbers from 0 for as many slots as the most beams."""
    most = beams.max().item()
    torch._check(most >= 1)  # type: ignore[no-untyped-call]
    return torch.arange(most)


def _apart(parts: Attended) -> Attended:
    """Copies, as a loop takes no two views of one tensor."""
    keys, values = parts
    return keys.clone(), values.clone()


def _attend(queries: Tensor, attended: Attended, shown: Tensor) -> Tensor:
    """What the heads mix for the queries (B, heads, T, D) of the places that are `shown`."""
    keys, values = attended
    scores = (queries * queries.shape[3] ** -0.5) @ keys.transpose(2, 3)
    mixed: Tensor = scores.masked_fill(~shown, NEVER).softmax(dim=3) @ values
    return mixed


def serve(checkpoint: Checkpoint) -> ServedTranslation:
    """The trained network of a checkpoint, in eval mode, as it is served."""
    model = checkpoint.build()
    assert isinstance(model, Translator)
    return ServedTranslation(model, longest(checkpoint.tokenizer)).eval()
