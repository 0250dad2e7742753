# pyright: basic
"""CTranslate2: on a processor, and on a GPU for weights of 8 bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor

from voxroute_asr_whisperx.features import LogMel
from voxroute_asr_whisperx.runtimes.runtime import (
    MAX_POSITIONS,
    NO_REPEAT_NGRAM,
    Alignment,
    Generation,
    Search,
)
from voxroute_serving.asr.whisper.decoding import MEDIAN_FILTER_WIDTH
from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, Samples


class CTranslate2Runtime:
    """A Runtime of `workers` that share the weights, on one device."""

    hears_short_contexts = True
    weight_bytes = 0

    def __init__(
        self,
        directory: Path,
        *,
        device: str,
        index: int,
        compute_type: str,
        cpu_threads: int,
        max_batch: int,
        workers: int,
    ) -> None:
        """Raises RuntimeError, ValueError."""
        self.max_batch = max_batch
        self.workers = workers
        self._model = WhisperModel(
            str(directory),
            device=device,
            device_index=index,
            compute_type=compute_type,
            cpu_threads=cpu_threads,
            num_workers=workers,
            local_files_only=True,
        )
        extractor = FeatureExtractor(int(self._model.model.n_mels))
        self._log_mel = LogMel(extractor, quick=device == "cuda")

    @property
    def compute_type(self) -> str:
        """The numeric type that CTranslate2 chose."""
        return str(self._model.model.compute_type)

    @property
    def is_multilingual(self) -> bool:
        """See Runtime."""
        return bool(self._model.model.is_multilingual)

    def encode(self, windows: Sequence[Samples], n_samples: int = N_WINDOW_SAMPLES) -> Any:
        """See Runtime."""
        return self._model.encode(self._log_mel(windows, n_samples))

    def generate(self, encoded: Any, prompt: Sequence[int], search: Search) -> list[Generation]:
        """See Runtime."""
        drawn: dict[str, Any] = {}
        if search.temperature:
            drawn = {"sampling_topk": 0, "sampling_temperature": search.temperature}
        results = self._model.model.generate(
            encoded,
            [list(prompt)] * encoded.shape[0],
            beam_size=search.beam_size,
            no_repeat_ngram_size=NO_REPEAT_NGRAM if search.temperature else 0,
            # it writes half as many tokens, and fewer where the prompt leaves less
            max_length=min(
                MAX_POSITIONS, search.max_tokens + max(search.max_tokens, len(prompt) - 1)
            ),
            suppress_blank=True,
            suppress_tokens=list(search.suppressed),
            return_scores=True,
            return_no_speech_prob=True,
            **drawn,
        )
        return [
            Generation(list(one.sequences_ids[0]), one.scores[0], one.no_speech_prob)
            for one in results
        ]

    def align(
        self,
        encoded: Any,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        frames: Sequence[int],
    ) -> list[Alignment]:
        """See Runtime."""
        found = self._model.model.align(
            encoded,
            list(start),
            [list(text) for text in texts],
            list(frames),
            median_filter_width=MEDIAN_FILTER_WIDTH,
        )
        return [Alignment(_begins(one.alignments), one.text_token_probs) for one in found]

    def detect_language(self, encoded: Any) -> list[dict[str, float]]:
        """See Runtime."""
        return [dict(found) for found in self._model.model.detect_language(encoded)]

    def close(self) -> None:
        """See Runtime."""
        self._model.model.unload_model()


def _begins(path: Sequence[tuple[int, int]]) -> list[int]:
    """Where each token begins, by the path of the tokens through the audio."""
    if not path:
        return []
    text_indices, time_indices = np.array(path).T
    return time_indices[np.diff(text_indices, prepend=-1).astype(bool)].tolist()
