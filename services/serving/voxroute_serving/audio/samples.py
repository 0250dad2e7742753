"""Samples as Whisper and Silero take them."""

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000  # Hz; what Whisper and Silero take
WINDOW_S = 30.0  # s; Whisper's encoder sees exactly this much
N_WINDOW_SAMPLES = int(WINDOW_S * SAMPLE_RATE)  # 480000 samples in a 30-second window
Samples = npt.NDArray[np.float32]
"""Mono samples at SAMPLE_RATE, shape (n,), -1 to 1."""
