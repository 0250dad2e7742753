# pyright: basic
"""Log-mel features of windows, as openai/whisper defines them, by three products of matrices."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation has it
from faster_whisper.feature_extractor import FeatureExtractor
from torch import Tensor

_FLOOR = 1e-10  # of a mel's power, before its logarithm
_RANGE = 8.0  # decades below the loudest; what is lower counts as silence


class LogMel:
    """With the filters and sizes of faster-whisper's extractor; features.py does it in numpy."""

    def __init__(self, n_mels: int, device: torch.device) -> None:
        extractor = FeatureExtractor(n_mels)
        self._n_fft, self._hop = int(extractor.n_fft), int(extractor.hop_length)
        # a Fourier transform is a matrix; this one has the window in it
        window = np.hanning(self._n_fft + 1)[:-1]
        bins = np.arange(self._n_fft // 2 + 1)
        angles = 2 * np.pi / self._n_fft * np.outer(np.arange(self._n_fft), bins)
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * window[:, None]
        self._waves = torch.from_numpy(waves.astype(np.float32)).to(device)
        self._filters = torch.from_numpy(extractor.mel_filters.astype(np.float32)).to(device)

    def __call__(self, samples: Tensor) -> Tensor:
        """(windows, mels, frames) of samples (windows, samples)."""
        padded = F.pad(samples[:, None], (self._n_fft // 2,) * 2, mode="reflect")[:, 0]
        frames = padded.unfold(1, self._n_fft, self._hop)[:, :-1]
        real, imaginary = (frames @ self._waves).chunk(2, dim=-1)
        mels = (real**2 + imaginary**2) @ self._filters.T
        log = mels.clamp(min=_FLOOR).log10()
        loudest = log.amax((1, 2), keepdim=True)
        return ((log.maximum(loudest - _RANGE) + 4.0) / 4.0).transpose(1, 2)
