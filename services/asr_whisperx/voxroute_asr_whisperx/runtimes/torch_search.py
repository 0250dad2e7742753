# pyright: basic
"""Beam search and sampling in tensors of fixed shapes, so that a graph can hold a step of it.

The rules are those of CTranslate2's decoding.cc: twice as many candidates as beams, so that beams
that end are replaced; a window is done with as many ended texts as beams; the best has the highest
mean probability of its tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxroute_asr_whisperx.runtimes.runtime import MAX_TOKENS, Search

_NEVER = -1e10  # the logarithm of a probability that nothing comes from


@dataclass(frozen=True, slots=True)
class Rules:
    """What a graph of a step is made for; other wishes are numbers that it reads."""

    n_beams: int
    is_drawn: bool
    no_repeat_ngram: int

    @staticmethod
    def of(search: Search) -> "Rules":
        """Those of a search."""
        return Rules(search.beam_size, search.temperature > 0, search.no_repeat_ngram)


class Tokens:
    """What is written so far, for as many windows as there is room for; a row is a window."""

    def __init__(
        self,
        n_windows: int,
        rules: Rules,
        *,
        n_positions: int,
        n_vocabulary: int,
        end: int,
        device: torch.device,
    ) -> None:
        """`n_positions` are those of a text with its prompt, `end` is the end token."""
        k = rules.n_beams
        self._rules = rules
        self._end = end
        self._n_vocabulary = n_vocabulary

        def integers(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self.next = integers(n_windows, k)
        """The last token of each beam, which is decoded next."""
        self.position = integers(1)
        """Of those."""
        self.is_done = torch.zeros(n_windows, dtype=torch.bool, device=device)
        self._scores = torch.zeros(n_windows, k, device=device)  # sums of logarithms
        self._texts = integers(n_windows, k, MAX_TOKENS)
        # in which beam's slot a beam's token of a position stands; -1 for none
        self._slots = integers(n_windows, k, n_positions)
        # texts that have ended; the last place takes what has not
        self._n_ended = integers(n_windows)
        self._ended_scores = torch.zeros(n_windows, 2 * k + 1, device=device)
        self._ended_texts = integers(n_windows, 2 * k + 1, MAX_TOKENS)
        self._ended_lengths = integers(n_windows, 2 * k + 1)
        self._places = integers(n_windows)  # in the batch
        self._n_written = integers(1)
        self._n_allowed = integers(1)
        self._temperature = torch.ones(1, device=device)
        self._suppressed = torch.zeros(n_vocabulary, device=device)
        self._suppressed_first = torch.zeros(n_vocabulary, device=device)

    def begin(
        self,
        n_windows: int,
        prompt: Sequence[int],
        search: Search,
        n_tokens: int,
        suppressed_first: Sequence[int],
    ) -> None:
        """Sets out with so many windows, whose prompt but its last token is in the first slot.

        Texts have `n_tokens` at most, and begin with none of `suppressed_first`.
        """
        self.next.fill_(prompt[-1])
        self.position.fill_(len(prompt) - 1)
        self.is_done.fill_(True)
        self.is_done[:n_windows] = False
        self._scores.fill_(_NEVER)
        self._scores[:, 0] = 0
        self._slots.fill_(-1)
        self._slots[:, :, : len(prompt) - 1] = 0
        self._n_ended.zero_()
        self._places.copy_(torch.arange(len(self._places)))
        self._n_written.zero_()
        self._n_allowed.fill_(n_tokens)
        self._temperature.fill_(search.temperature or 1.0)
        for mask, tokens in (
            (self._suppressed, search.suppressed),
            (self._suppressed_first, [*search.suppressed, *suppressed_first]),
        ):
            mask.zero_()
            mask[torch.tensor(sorted({*tokens}), dtype=torch.int64)] = -torch.inf

    def mask(self, n_windows: int, n_positions: int, dtype: torch.dtype) -> Tensor:
        """What each beam may read of a window's slots: (windows, 1, beams, positions * slots).

        Marks the position of the tokens that are about to be decoded as each beam's own.
        """
        k = self._rules.n_beams
        numbers = torch.arange(k, device=self._slots.device)
        slots = self._slots[:n_windows]
        slots.index_copy_(2, self.position, numbers[None, :, None].expand(n_windows, k, 1))
        is_own = slots[:, :, :n_positions, None] == numbers
        mask = torch.zeros_like(is_own, dtype=dtype).masked_fill_(~is_own, -torch.inf)
        return mask.flatten(2)[:, None]

    def advance(self, logits: Tensor) -> None:
        """Goes on by the logits (windows, beams, vocabulary) of the tokens; changes all tensors."""
        n, k = logits.shape[:2]
        scores, tokens, parents = self._candidates(logits, 2 * k)
        is_last = self._n_written + 1 >= self._n_allowed
        is_end = tokens == self._end
        texts = self._texts[:n].gather(1, parents[:, :, None].expand(-1, -1, self._texts.shape[2]))
        texts.index_copy_(2, self._n_written, tokens[:, :, None])

        # texts that end here
        ends = (is_end[:, :k] | is_last) & ~self.is_done[:n, None]
        rank = ends.cumsum(1) - 1
        slot = torch.where(ends, self._n_ended[:n, None] + rank, 2 * k)
        lengths = self._n_written + (~is_end[:, :k]).long()
        self._ended_scores[:n].scatter_(1, slot, scores[:, :k])
        self._ended_lengths[:n].scatter_(1, slot, lengths)
        wide = slot[:, :, None].expand(-1, -1, texts.shape[2])
        self._ended_texts[:n].scatter_(1, wide, texts[:, :k])
        self._n_ended[:n] += ends.sum(1)
        self.is_done[:n] |= (self._n_ended[:n] >= k) | is_last

        # those that go on: the first that do not end, in their order
        others = is_end[:, k:].long().argsort(dim=1, stable=True) + k
        own = torch.arange(k, device=tokens.device).expand(n, k)
        chosen = torch.where(
            is_end[:, :k], others.gather(1, (is_end[:, :k].cumsum(1) - 1).clamp(0)), own
        )
        self.next[:n] = tokens.gather(1, chosen)
        self._scores[:n] = scores.gather(1, chosen)
        parents = parents.gather(1, chosen)
        self._texts[:n] = texts.gather(1, chosen[:, :, None].expand(-1, -1, texts.shape[2]))
        wide = parents[:, :, None].expand(-1, -1, self._slots.shape[2])
        self._slots[:n] = self._slots[:n].gather(1, wide)
        self._n_written += 1
        self.position += 1

    def _candidates(self, logits: Tensor, n_wanted: int) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, tokens and beams of the best ways to go on; each (windows, n_wanted)."""
        n, k = logits.shape[:2]
        is_first = self._n_written == 0
        logits = logits + torch.where(is_first, self._suppressed_first, self._suppressed)
        if self._rules.no_repeat_ngram:
            logits = logits.masked_fill(self._repeated(n), -torch.inf)
        # every token's probability is of all that may come
        total = logits.logsumexp(-1, keepdim=True)
        ranked = logits
        if self._rules.is_drawn:
            noise = -torch.empty_like(logits).exponential_().log()
            ranked = logits / self._temperature + noise
        _, tokens = ranked.topk(min(n_wanted, self._n_vocabulary), dim=-1)
        scores = self._scores[:n, :, None] + logits.gather(2, tokens) - total
        if k == 1:
            return scores[:, 0], tokens[:, 0], torch.zeros_like(tokens[:, 0])
        best, which = scores.flatten(1).topk(n_wanted, dim=1)
        return best, tokens.flatten(1).gather(1, which), which // n_wanted

    def _repeated(self, n: int) -> Tensor:
        """Which tokens would end a row of tokens that stands in the text already."""
        size = self._rules.no_repeat_ngram - 1
        texts = self._texts[:n]
        back = torch.arange(-size, 0, device=texts.device)
        last = texts.index_select(2, (self._n_written + back).clamp(0))
        rows = texts.unfold(2, size, 1)[:, :, :-1]
        after = texts[:, :, size:]
        numbers = torch.arange(after.shape[2], device=texts.device)
        is_same = (rows == last[:, :, None]).all(-1) & (numbers + size < self._n_written)
        # the column behind the vocabulary takes what is not the same
        columns = torch.where(is_same, after, self._n_vocabulary)
        wide = torch.zeros(
            n, texts.shape[1], self._n_vocabulary + 1, dtype=torch.bool, device=texts.device
        )
        return wide.scatter_(2, columns, True)[:, :, :-1]

    def ended(self, rows: int) -> dict[int, tuple[list[int], float]]:
        """By its place in the batch, the best text of each window that is done, of so many rows.

        With the mean of its tokens' logarithms of probabilities, to which the end adds.
        """
        done, places, n_ended, scores, lengths, texts = (
            one[:rows].cpu()
            for one in (
                self.is_done,
                self._places,
                self._n_ended,
                self._ended_scores,
                self._ended_lengths,
                self._ended_texts,
            )
        )
        found: dict[int, tuple[list[int], float]] = {}
        for row in (done & (n_ended > 0)).nonzero()[:, 0].tolist():
            n = int(n_ended[row])
            means = scores[row, :n] / lengths[row, :n].clamp(min=1)
            best = int(means.argmax())
            text = texts[row, best, : int(lengths[row, best])].tolist()
            found[int(places[row])] = text, float(means[best])
        return found

    def keep(self, rows: Tensor, n: Tensor) -> None:
        """Moves the windows of these rows to the front; those from `n` (1,) on are done."""
        for one in (
            self.next,
            self.is_done,
            self._scores,
            self._texts,
            self._slots,
            self._n_ended,
            self._ended_scores,
            self._ended_texts,
            self._ended_lengths,
            self._places,
        ):
            one[: len(rows)] = one[rows]
        is_left = torch.arange(len(self.is_done), device=n.device) < n
        self.is_done |= ~is_left
        self._n_ended *= is_left
