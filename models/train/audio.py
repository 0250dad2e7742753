"""Audio for training and evaluation: resampling, Whisper's log-mel features, noise, music and reverberation.

Waveforms are float tensors in [-1, 1] at 16 kHz.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.signal import resample_poly

SAMPLE_RATE = 16_000
N_FFT = 400
HOP = 160  # samples per mel frame: 10 ms
N_MELS = 80
N_SAMPLES = 30 * SAMPLE_RATE  # one window
N_FRAMES = N_SAMPLES // HOP  # 3000 mel frames, 1500 encoder positions


def resample(samples: np.ndarray, rate: int, speed_step: int = 0) -> np.ndarray:
    """int16 `samples` at `rate` as int16 at 16 kHz; `speed_step` shifts speed and pitch by about 2.3 % a step."""
    divisor = math.gcd(SAMPLE_RATE, rate)
    up, down = SAMPLE_RATE // divisor, rate // divisor
    if speed_step:
        down += round(
            speed_step * down * 0.023
        )  # small terms keep the filter of resample_poly short
        divisor = math.gcd(up, down)
        up, down = up // divisor, down // divisor
    resampled = resample_poly(samples.astype(np.float32), up, down)
    return np.clip(resampled, -32768, 32767).astype(np.int16)


def mel_filters(device: torch.device) -> torch.Tensor:
    """Slaney's mel filter bank [80, 201], as librosa.filters.mel(sr=16000, n_fft=400, n_mels=80) makes it."""

    def to_mel(hz: np.ndarray) -> np.ndarray:
        linear = hz / (200.0 / 3)
        return np.where(
            hz >= 1000, 15 + np.log(np.maximum(hz, 1e-9) / 1000) / (np.log(6.4) / 27), linear
        )

    def to_hz(mel: np.ndarray) -> np.ndarray:
        return np.where(
            mel >= 15, 1000 * np.exp((np.log(6.4) / 27) * (mel - 15)), mel * (200.0 / 3)
        )

    edges = to_hz(np.linspace(0, to_mel(np.array([SAMPLE_RATE / 2]))[0], N_MELS + 2))
    bins = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.tensor(weights, dtype=torch.float32, device=device)


def power_spectrum(wave: torch.Tensor) -> torch.Tensor:
    """`wave` [B, samples] as power [B, 201, samples / 160]."""
    window = torch.hann_window(N_FFT, device=wave.device)
    return torch.stft(wave, N_FFT, HOP, window=window, return_complex=True)[..., :-1].abs() ** 2


def log_mel(
    power: torch.Tensor, filters: torch.Tensor, headroom: torch.Tensor | None = None
) -> torch.Tensor:
    """Whisper's features [B, 80, frames] of `power`.

    The floor is 8 (80 dB) below the loudest bin. `headroom` [B] raises it: engines that compute the features of a
    whole file take the loudest bin of the file, not of the window.
    """
    mel = torch.log10((filters @ power).clamp(min=1e-10))
    top = mel.amax(dim=(1, 2), keepdim=True)
    if headroom is not None:
        top = top + headroom[:, None, None]
    return (torch.maximum(mel, top - 8.0) + 4.0) / 4.0


def coloured_noise(rows: int, samples: int, device: torch.device) -> torch.Tensor:
    """Noise [rows, samples] of unit power; each row between white and brown, some with a slow swell."""
    spectrum = torch.fft.rfft(torch.randn(rows, samples, device=device))
    frequency = torch.linspace(1e-4, 1, spectrum.shape[1], device=device)
    exponent = (
        torch.rand(rows, 1, device=device) * 1.0 * (torch.rand(rows, 1, device=device) < 0.75)
    )
    noise = torch.fft.irfft(spectrum * frequency[None].clamp(min=2e-3) ** -exponent, n=samples)
    time = torch.arange(samples, device=device) / SAMPLE_RATE
    rate, phase = torch.rand(2, rows, 1, device=device)
    swell = 1 + 0.7 * (torch.rand(rows, 1, device=device) < 0.4) * torch.sin(
        2 * math.pi * (rate * 0.5 * time + phase)
    )
    noise = noise * swell
    return noise / noise.square().mean(1, keepdim=True).sqrt()


def music(rows: int, samples: int, device: torch.device, seed: int) -> torch.Tensor:
    """Soft synthetic music [rows, samples] of unit power: chords of a scale, a bass and plucked notes."""
    rng = np.random.default_rng(seed)
    out = torch.zeros(rows, samples, device=device)
    for row in range(rows):
        root = 110 * 2 ** (rng.integers(0, 12) / 12)
        scale = np.array(
            [[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 1, 4, 5, 7, 8, 11]][
                rng.integers(3)
            ]
        )
        beat = int(SAMPLE_RATE * rng.uniform(0.25, 0.7))
        harmonics = rng.uniform(0.15, 0.7)
        plucked = rng.random() < 0.7
        at = 0
        while at < samples:
            degree = rng.integers(0, 7)
            bar = min(4 * beat, samples - at)
            _tones(
                out[row],
                at,
                bar,
                [root * 2 ** (scale[(degree + k) % 7] / 12) for k in (0, 2, 4)],
                harmonics,
                0.3,
                1.0,
            )
            if plucked:
                for step in range(4):
                    start = at + step * beat
                    if start < samples and rng.random() < 0.8:
                        pitch = root * 2 ** (1 + scale[rng.integers(0, 7)] / 12)
                        _tones(
                            out[row],
                            start,
                            min(2 * beat, samples - start),
                            [pitch],
                            harmonics,
                            0.01,
                            6.0,
                        )
            at += 4 * beat
    return out / out.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)


def _tones(
    out: torch.Tensor,
    start: int,
    length: int,
    pitches: list[float],
    harmonics: float,
    attack_s: float,
    decay: float,
) -> None:
    """Add notes of `pitches` (Hz) with an attack and an exponential decay (1/s) to `out`."""
    time = torch.arange(length, device=out.device) / SAMPLE_RATE
    envelope = (
        (time / attack_s).clamp(max=1)
        * torch.exp(-decay * time)
        * ((length / SAMPLE_RATE - time) / 0.05).clamp(max=1)
    )
    wave = torch.zeros_like(time)
    for pitch in pitches:
        for overtone in range(1, 6):
            wave += harmonics ** (overtone - 1) * torch.sin(2 * math.pi * pitch * overtone * time)
    out[start : start + length] += envelope * wave


def reverberate(wave: torch.Tensor) -> torch.Tensor:
    """`wave` [B, samples] in small random rooms (exponential tails of 0.1 to 0.5 s)."""
    rows, samples = wave.shape
    length = SAMPLE_RATE // 2
    time = torch.arange(length, device=wave.device) / SAMPLE_RATE
    decay_s = 0.1 + 0.4 * torch.rand(rows, 1, device=wave.device)
    tail = torch.randn(rows, length, device=wave.device) * torch.exp(-6.9 * time[None] / decay_s)
    tail = (
        tail
        / tail.square().sum(1, keepdim=True).sqrt()
        * (0.2 + 0.5 * torch.rand(rows, 1, device=wave.device))
    )
    tail[:, 0] = 1.0
    size = samples + length
    spectrum = torch.fft.rfft(wave, n=size) * torch.fft.rfft(tail, n=size)
    return torch.fft.irfft(spectrum, n=size)[:, :samples]
