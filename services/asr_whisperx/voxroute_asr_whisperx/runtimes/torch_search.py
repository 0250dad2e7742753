# pyright: basic
"""Beam search and sampling in tensors of fixed shapes, so that a graph can hold a step of it.

The rules are those of CTranslate2's decoding.cc: twice as many candidates as beams, so that beams
that end are replaced; a window is done with as many ended texts as beams; the best has the highest
mean probability of its tokens. Each row has a beginning, a number of beams and a temperature of its
own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from voxroute_asr_whisperx.runtimes.runtime import MAX_TOKENS, NO_REPEAT_NGRAM

_NEVER = -1e10  # the logarithm of a probability that nothing comes from


@dataclass(frozen=True, slots=True)
class Wishes:
    """How texts are looked for; (rows,) where nothing else is said."""

    n_tokens: Tensor
    """That a text has at most."""
    n_beams: Tensor
    temperature: Tensor
    """0 for the likeliest text; above, one beam draws, and no five tokens come twice."""
    suppressed: Tensor
    """(vocabulary,), -inf at the tokens that are in none of the texts, else 0."""


class Tokens:
    """What is written so far, for as many windows as there is room for; a row is a window."""

    def __init__(
        self,
        n_rows: int,
        n_beams: int,
        *,
        n_positions: int,
        n_vocabulary: int,
        end: int,
        suppressed_first: Tensor,
        device: torch.device,
    ) -> None:
        """`n_positions` are those of a text with its prompt, `end` is the end token.

        `suppressed_first` is as `Wishes.suppressed`, for what no text begins with.
        """
        k = n_beams
        self._n_beams = k
        self._end = end
        self._n_vocabulary = n_vocabulary
        self._last_position = n_positions - 1

        def integers(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self._suppressed_first = suppressed_first
        self.next = integers(n_rows, k)
        """The last token of each beam, which is decoded next."""
        self.position = integers(n_rows)
        """Of those."""
        self.is_done = torch.ones(n_rows, dtype=torch.bool, device=device)
        self._scores = torch.zeros(n_rows, k, device=device)  # sums of logarithms
        self._texts = integers(n_rows, k, MAX_TOKENS)
        # in which beam's slot a beam's token of a position stands; -1 for none
        self._slots = integers(n_rows, k, n_positions)
        # texts that have ended; the last place takes what has not
        self._n_ended = integers(n_rows)
        self._ended_scores = torch.zeros(n_rows, 2 * k + 1, device=device)
        self._ended_texts = integers(n_rows, 2 * k + 1, MAX_TOKENS)
        self._ended_lengths = integers(n_rows, 2 * k + 1)
        self._n_written = integers(n_rows)
        self._n_wanted = integers(n_rows)
        self._beams = integers(n_rows)
        self._temperature = torch.zeros(n_rows, device=device)
        self._suppressed = torch.zeros(n_rows, n_vocabulary, device=device)
        self._silence = torch.zeros(n_rows, device=device)

    def begin(
        self, rows: Tensor, n_prompt: int, last: Tensor, wishes: Wishes, silence: Tensor
    ) -> None:
        """Sets out in these rows (n,), after prompts that but for the `last` tokens are read.

        Those stand in the first slot. `silence` (n,) is how probable it is that nobody speaks.
        """
        self.next.index_copy_(0, rows, last[:, None].expand(-1, self._n_beams))
        self.position.index_fill_(0, rows, n_prompt - 1)
        self.is_done.index_fill_(0, rows, False)
        first = torch.full_like(self._scores[: len(rows)], _NEVER)
        first[:, 0] = 0
        self._scores.index_copy_(0, rows, first)
        slots = torch.full_like(self._slots[: len(rows)], -1)
        slots[:, :, : n_prompt - 1] = 0
        self._slots.index_copy_(0, rows, slots)
        self._n_ended.index_fill_(0, rows, 0)
        self._n_written.index_fill_(0, rows, 0)
        self._n_wanted.index_copy_(0, rows, wishes.n_tokens)
        self._beams.index_copy_(0, rows, wishes.n_beams)
        self._temperature.index_copy_(0, rows, wishes.temperature)
        wide = wishes.suppressed.expand(len(rows), -1)
        self._suppressed.index_copy_(0, rows, wide)
        self._silence.index_copy_(0, rows, silence)

    def mask(self, n_rows: int, n_positions: int, dtype: torch.dtype) -> Tensor:
        """What each beam may read of a window's slots: (rows, 1, beams, positions * slots).

        Marks the position of the tokens that are about to be decoded as each beam's own.
        """
        k = self._n_beams
        numbers = torch.arange(k, device=self._slots.device)
        slots = self._slots[:n_rows]
        at = self.position[:n_rows, None, None].expand(-1, k, 1)
        slots.scatter_(2, at, numbers[None, :, None].expand(n_rows, k, 1))
        is_own = slots[:, :, :n_positions, None] == numbers
        mask = torch.zeros_like(is_own, dtype=dtype).masked_fill_(~is_own, -torch.inf)
        return mask.flatten(2)[:, None]

    def advance(self, logits: Tensor) -> None:
        """Goes on by the logits (rows, beams, vocabulary) of the tokens; changes all tensors."""
        n, k = logits.shape[:2]
        scores, tokens, parents = self._candidates(logits, 2 * k)
        is_going = ~self.is_done[:n]
        is_beam = torch.arange(k, device=tokens.device) < self._beams[:n, None]
        is_last = (self._n_written[:n] + 1 >= self._n_wanted[:n])[:, None]
        is_end = tokens == self._end
        texts = self._texts[:n].gather(1, parents[:, :, None].expand(-1, -1, MAX_TOKENS))
        at = self._n_written[:n, None, None].expand(-1, 2 * k, 1)
        texts.scatter_(2, at, tokens[:, :, None])

        # texts that end here
        ends = (is_end[:, :k] | is_last) & is_beam & is_going[:, None]
        rank = ends.cumsum(1) - 1
        slot = torch.where(ends, self._n_ended[:n, None] + rank, 2 * k)
        lengths = self._n_written[:n, None] + (~is_end[:, :k]).long()
        self._ended_scores[:n].scatter_(1, slot, scores[:, :k])
        self._ended_lengths[:n].scatter_(1, slot, lengths)
        wide = slot[:, :, None].expand(-1, -1, MAX_TOKENS)
        self._ended_texts[:n].scatter_(1, wide, texts[:, :k])
        self._n_ended[:n] += ends.sum(1)
        self.is_done[:n] |= (self._n_ended[:n] >= self._beams[:n]) | is_last[:, 0]

        # those that go on: the first that do not end
        chosen = is_end.long().argsort(dim=1, stable=True)[:, :k]
        self.next[:n] = tokens.gather(1, chosen)
        self._scores[:n] = scores.gather(1, chosen).masked_fill(~is_beam, _NEVER)
        parents = parents.gather(1, chosen)
        self._texts[:n] = texts.gather(1, chosen[:, :, None].expand(-1, -1, MAX_TOKENS))
        wide = parents[:, :, None].expand(-1, -1, self._slots.shape[2])
        self._slots[:n] = self._slots[:n].gather(1, wide)
        # a row that is done stays where it is until another window has it
        self._n_written[:n] = (self._n_written[:n] + is_going).clamp(max=MAX_TOKENS - 1)
        self.position[:n] = (self.position[:n] + is_going).clamp(max=self._last_position)

    def _candidates(self, logits: Tensor, n_wanted: int) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, tokens and beams of the best ways to go on; each (rows, n_wanted)."""
        n = len(logits)
        is_drawn = (self._temperature[:n] > 0)[:, None]
        is_first = (self._n_written[:n] == 0)[:, None]
        suppressed = self._suppressed[:n] + torch.where(is_first, self._suppressed_first, 0.0)
        logits = logits + suppressed[:, None]
        # only the first beam draws
        likely = logits[:, 0].masked_fill(self._repeated(n) & is_drawn, -torch.inf)
        logits[:, 0] = likely
        # every token's probability is of all that may come
        total = logits.logsumexp(-1, keepdim=True)
        noise = -torch.empty_like(likely).exponential_().log()
        drawn = likely / self._temperature[:n, None].clamp(min=1e-9) + noise
        _, tokens = logits.topk(n_wanted, dim=-1)
        _, drawn = drawn.topk(n_wanted, dim=-1)
        tokens[:, 0] = torch.where(is_drawn, drawn, tokens[:, 0])
        scores = self._scores[:n, :, None] + logits.gather(2, tokens) - total
        best, which = scores.flatten(1).topk(n_wanted, dim=1)
        # what was drawn is not the likeliest: it stays in its order
        which = torch.where(is_drawn, torch.arange(n_wanted, device=which.device), which)
        best = torch.where(is_drawn, scores[:, 0], best)
        return best, tokens.flatten(1).gather(1, which), which // n_wanted

    def _repeated(self, n: int) -> Tensor:
        """Which tokens would end a row of tokens that stands in a first beam's text already."""
        size = NO_REPEAT_NGRAM - 1
        texts, n_written = self._texts[:n, 0], self._n_written[:n, None]
        back = torch.arange(-size, 0, device=texts.device)
        last = texts.gather(1, (n_written + back).clamp(0))
        rows = texts.unfold(1, size, 1)[:, :-1]
        after = texts[:, size:]
        numbers = torch.arange(after.shape[1], device=texts.device)
        is_same = (rows == last[:, None]).all(-1) & (numbers + size < n_written)
        # the column behind the vocabulary takes what is not the same
        columns = torch.where(is_same, after, self._n_vocabulary)
        wide = torch.zeros(n, self._n_vocabulary + 1, dtype=torch.bool, device=texts.device)
        return wide.scatter_(1, columns, True)[:, :-1]

    def best(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The best text of each of these rows, which are done.

        (n, tokens + 1), the last column being their number; and (n, 2): the mean of the tokens'
        logarithms of probabilities, to which the end adds, and how probable silence was.
        """
        lengths = self._ended_lengths[rows]
        means = self._ended_scores[rows] / lengths.clamp(min=1)
        places = torch.arange(means.shape[1], device=means.device)
        means = means.masked_fill(places >= self._n_ended[rows, None], -torch.inf)
        mean, best = means.max(1)
        texts = self._ended_texts[rows, best]
        length = lengths.gather(1, best[:, None])
        return torch.cat([texts, length], 1), torch.stack([mean, self._silence[rows]], 1)

    def move(self, rows: Tensor, to: Tensor) -> None:
        """Moves windows into other rows; where they were is done."""
        for one in (
            self.next,
            self.position,
            self.is_done,
            self._scores,
            self._texts,
            self._slots,
            self._n_ended,
            self._ended_scores,
            self._ended_texts,
            self._ended_lengths,
            self._n_written,
            self._n_wanted,
            self._beams,
            self._temperature,
            self._suppressed,
            self._silence,
        ):
            one.index_copy_(0, to, one[rows])
        self.is_done.index_fill_(0, rows, True)
