"""Whether a sound is what was heard just before."""

from voxroute_serving.audio.media import SAMPLE_RATE

_SAME = 0.7  # of 1: correlation of what is heard twice; two recordings have next to none
_LAG_S = 0.1  # s; how far apart it may stand
_FAINT = 30.0  # of 32768; fainter than that, nothing can be compared


def is_repeated(before: bytes, now: bytes, length_s: float) -> bool | None:
    """Whether `now` repeats what was heard `length_s` before the end of `before`.

    None where it is too faint to tell.
    """
    import numpy as np  # noqa: PLC0415 - a fifth of a second, which most recordings do without

    old = np.frombuffer(before, "<i2").astype(np.float32)
    old = old[max(0, len(old) - round(length_s * SAMPLE_RATE)) :]
    new = np.frombuffer(now, "<i2").astype(np.float32)[: len(old)]
    old = old[: len(new)]
    level_old, level_new = (float(np.sqrt(np.mean(x**2))) if len(x) else 0.0 for x in (old, new))
    if level_old < _FAINT and level_new < _FAINT:
        return None
    if min(level_old, level_new) < max(level_old, level_new) / 4:
        return False
    size = 1 << (2 * len(old) - 1).bit_length()
    product = np.fft.rfft(old, size) * np.conj(np.fft.rfft(new, size))
    lags = np.fft.irfft(product, size)
    n_lag = round(_LAG_S * SAMPLE_RATE)
    near = np.concatenate([lags[: n_lag + 1], lags[-n_lag:]])
    return float(near.max()) > _SAME * float(np.linalg.norm(old) * np.linalg.norm(new))
