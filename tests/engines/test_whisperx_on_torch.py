# pyright: basic
"""What torch makes of a model is what CTranslate2 makes of it: in float32, to the token.

Where there is a GPU its graphs are what runs; elsewhere the same functions as they are.
"""

import itertools
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxroute_asr_whisperx.engine import ctranslate2_directory
from voxroute_asr_whisperx.runtimes.runtime import Generation, Runtime, Search
from voxroute_asr_whisperx.runtimes.weights import floating, read_variables
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

EXAMPLES = Path(__file__).parents[2] / "examples"
START, ENGLISH, TRANSCRIBE, NO_TIMES, BEFORE = 50258, 50259, 50359, 50363, 50361
PROMPT = [START, ENGLISH, TRANSCRIBE, NO_TIMES]
LONG_PROMPT = [BEFORE, *range(300, 320), *PROMPT]
LENGTHS_S = (14.0, 2.0, 0.4)


@pytest.fixture(scope="module", params=["bundled", pytest.param("random", marks=pytest.mark.slow)])
def directory(
    request: pytest.FixtureRequest, bundled_asr: Path, random_checkpoint: Path, cache: Path
) -> Path:
    """A model in CTranslate2's format: one that has learnt, and one whose texts never end."""
    source = bundled_asr if request.param == "bundled" else random_checkpoint
    return ctranslate2_directory(request.param, source, cache, lambda _: None)


@pytest.fixture(scope="module")
def on_torch(directory: Path) -> Runtime:
    """The model as a GPU has it."""
    import torch  # noqa: PLC0415 - seconds

    from voxroute_asr_whisperx.runtimes.on_torch import TorchRuntime  # noqa: PLC0415 - seconds

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    # four rows, as few as there are: each step works on all of them
    return TorchRuntime(directory, device, "float32", max_batch=1)


@pytest.fixture(scope="module")
def on_ctranslate2(directory: Path) -> Runtime:
    """The same by the library."""
    from voxroute_asr_whisperx.runtimes.on_ctranslate2 import (  # noqa: PLC0415 - seconds
        CTranslate2Runtime,
    )

    return CTranslate2Runtime(
        directory,
        device="cpu",
        index=0,
        compute_type="float32",
        cpu_threads=2,
        max_batch=4,
        workers=1,
    )


@pytest.fixture(scope="module")
def windows() -> list[Samples]:
    """Speech of several lengths."""
    from faster_whisper import decode_audio  # noqa: PLC0415 - takes seconds

    (media,) = EXAMPLES.glob("*.mp4")
    samples = np.asarray(decode_audio(str(media), sampling_rate=SAMPLE_RATE))
    starts = itertools.accumulate(LENGTHS_S, initial=0.0)
    return [
        samples[int(a * SAMPLE_RATE) : int((a + n) * SAMPLE_RATE)]
        for a, n in zip(starts, LENGTHS_S, strict=False)
    ]


def close(ours: Sequence[Generation], theirs: Sequence[Generation]) -> None:
    """Fails unless the texts are the same, and as probable."""
    for one, other in zip(ours, theirs, strict=True):
        assert list(one.tokens) == list(other.tokens)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-4)
        if one.tokens:  # CTranslate2 divides by their number
            assert one.mean_log_prob == pytest.approx(other.mean_log_prob, abs=1e-3)


@pytest.mark.parametrize(
    ("prompt", "search"),
    [
        pytest.param(PROMPT, Search(5), id="beam"),
        # the other ways in which calls that share rows look for their texts, each alone
        pytest.param(LONG_PROMPT, Search(5, max_tokens=40), id="prompt", marks=pytest.mark.slow),
        pytest.param(
            PROMPT,
            Search(3, suppressed=(1, 2, 7, 300), max_tokens=20),
            id="cut off",
            marks=pytest.mark.slow,
        ),
        pytest.param(PROMPT, Search(1, max_tokens=40), id="greedy", marks=pytest.mark.slow),
        # so cold that the likeliest token is always drawn
        pytest.param(
            PROMPT,
            Search(1, temperature=1e-6, max_tokens=60),
            id="drawn",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_text_is_that_of_ctranslate2(
    on_torch: Runtime,
    on_ctranslate2: Runtime,
    windows: list[Samples],
    prompt: list[int],
    search: Search,
) -> None:
    """Beams, their ends, what is suppressed, what may not repeat, where there is no more room."""
    ours = on_torch.generate(on_torch.encode(windows), prompt, search)
    theirs = on_ctranslate2.generate(on_ctranslate2.encode(windows), prompt, search)
    close(ours, theirs)
    assert max(len(one.tokens) for one in ours) <= search.max_tokens


@pytest.mark.slow
def test_windows_that_end_make_room_and_change_nothing(
    on_torch: Runtime, windows: list[Samples]
) -> None:
    """A batch shrinks while it is decoded; each window has the text that it has alone."""
    search = Search(3, max_tokens=60)
    together = on_torch.generate(on_torch.encode(windows), PROMPT, search)
    alone = [
        on_torch.generate(on_torch.encode(windows[i : i + 1]), PROMPT, search)[0]
        for i in range(len(windows))
    ]
    close(together, alone)


@pytest.mark.slow
def test_more_beams_and_longer_prompts_than_expected_have_room(
    on_torch: Runtime, on_ctranslate2: Runtime, windows: list[Samples]
) -> None:
    """The memory that was taken for five beams and a short prompt is used for fewer windows."""
    prompt = [BEFORE, *[400, 500] * 100, *PROMPT]
    search = Search(7, max_tokens=12)
    ours = on_torch.generate(on_torch.encode(windows[:2]), prompt, search)
    theirs = on_ctranslate2.generate(on_ctranslate2.encode(windows[:2]), prompt, search)
    close(ours, theirs)
    search = Search(2, max_tokens=12)
    ours = on_torch.generate(on_torch.encode(windows[:2]), PROMPT, search)
    theirs = on_ctranslate2.generate(on_ctranslate2.encode(windows[:2]), PROMPT, search)
    close(ours, theirs)


def test_calls_share_rows_and_change_nothing(
    on_torch: Runtime, on_ctranslate2: Runtime, windows: list[Samples]
) -> None:
    """Windows of ten calls, in the four rows that there are, have the texts that they have alone.

    They begin and end at different times, with beams of their own, drawn or not; those after a long
    prompt wait until the rows are free.
    """
    searches = [
        (PROMPT, Search(5, max_tokens=30)),
        (PROMPT, Search(1, max_tokens=20)),
        (PROMPT, Search(2, suppressed=(1, 2, 7, 300), max_tokens=25)),
        (PROMPT, Search(1, temperature=1e-6, max_tokens=30)),
        ([BEFORE, *[400, 500] * 100, *PROMPT], Search(5, max_tokens=8)),
    ]
    calls = [(call, window) for window in windows[1:] for call in searches]
    with ThreadPoolExecutor(len(calls)) as pool:
        ours = pool.map(lambda one: on_torch.generate(on_torch.encode([one[1]]), *one[0])[0], calls)
        theirs = [
            on_ctranslate2.generate(on_ctranslate2.encode([window]), *call)[0]
            for call, window in calls
        ]
        close(list(ours), theirs)


def test_a_failure_is_told_to_all_and_ends_with_them(
    directory: Path, windows: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and the next call is decoded."""
    from voxroute_asr_whisperx.runtimes.on_torch import TorchRuntime  # noqa: PLC0415 - seconds

    runtime: Any = TorchRuntime(directory, "cpu", "float32", max_batch=1)
    search = Search(2, max_tokens=10)
    encoded = runtime.encode(windows[:1])
    expected = runtime.generate(encoded, PROMPT, search)
    step = runtime._network.step
    n_calls = itertools.count()

    def failing(*given: Any) -> Any:
        if next(n_calls) == 2:
            raise RuntimeError("CUDA out of memory")
        return step(*given)

    monkeypatch.setattr(runtime._network, "step", failing)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(runtime.generate, encoded, PROMPT, search) for _ in range(6)]
        errors = [one.exception(timeout=60) for one in asked]
    assert any(errors)
    assert all(error is None or "out of memory" in str(error) for error in errors)
    close(runtime.generate(encoded, PROMPT, search), expected)
    runtime.close()


def test_a_failure_is_told_to_those_whose_text_was_ready(
    directory: Path, windows: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left its row, and is not handed out yet, when those that begin there fail."""
    from voxroute_asr_whisperx.runtimes.on_torch import TorchRuntime  # noqa: PLC0415 - seconds

    runtime: Any = TorchRuntime(directory, "cpu", "float32", max_batch=1)
    encoded = runtime.encode(windows[:1])
    step, leave = runtime._network.step, runtime._decoder._leave
    left: list[object] = []

    def leaving(*given: Any) -> None:
        leave(*given)
        left.append(given)

    def failing(*given: Any) -> Any:
        if left:
            raise RuntimeError("CUDA out of memory")
        return step(*given)

    monkeypatch.setattr(runtime._decoder, "_leave", leaving)
    monkeypatch.setattr(runtime._network, "step", failing)
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(runtime.generate, encoded, PROMPT, Search(2, max_tokens=10))
            for _ in range(6)
        ]
        assert any("out of memory" in str(one.exception(timeout=60)) for one in asked)
    runtime.close()


@pytest.mark.slow
def test_what_is_drawn_differs_and_never_repeats(on_torch: Runtime, windows: list[Samples]) -> None:
    """No five tokens come twice, however often they are drawn."""
    search = Search(1, temperature=0.8, max_tokens=60)
    encoded = on_torch.encode(windows)
    texts = [one.tokens for _ in range(2) for one in on_torch.generate(encoded, PROMPT, search)]
    for text in texts:
        rows = [tuple(text[i : i + 5]) for i in range(len(text) - 4)]
        assert len(set(rows)) == len(rows)
    assert texts[: len(windows)] != texts[len(windows) :]


def test_words_are_heard_where_ctranslate2_hears_them(
    on_torch: Runtime, on_ctranslate2: Runtime, windows: list[Samples]
) -> None:
    """In windows of several lengths, one of them without a text."""
    encoded = on_ctranslate2.encode(windows)
    written = on_ctranslate2.generate(encoded, PROMPT, Search(1, max_tokens=40))
    texts = [*(list(one.tokens) for one in written[:2]), []]
    frames = [max(2, len(window) * 100 // SAMPLE_RATE) for window in windows]
    start = PROMPT[:-1]
    ours = on_torch.align(on_torch.encode(windows), start, texts, frames)
    theirs = on_ctranslate2.align(encoded, start, texts, frames)
    for text, one, other in zip(texts, ours, theirs, strict=True):
        assert len(one.begins) == len(text) + 1
        assert one.probabilities == pytest.approx(list(other.probabilities), abs=1e-4)
        apart = [abs(a - b) for a, b in zip(one.begins, other.begins, strict=False)]
        # paths of equal cost are many where nothing is attended to
        assert sum(positions <= 1 for positions in apart) >= 0.9 * len(apart)


def test_languages_are_as_probable(
    on_torch: Runtime, on_ctranslate2: Runtime, windows: list[Samples]
) -> None:
    """The same languages, each with the same probability."""
    assert on_torch.is_multilingual
    assert on_ctranslate2.is_multilingual
    ours = on_torch.detect_language(on_torch.encode(windows))
    theirs = on_ctranslate2.detect_language(on_ctranslate2.encode(windows))
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_everything_is_prepared_before_the_first_call(on_torch: Any) -> None:
    """What a GPU runs at its load: every batch size once, beams, words and all."""
    on_torch._prepare()


def test_the_cheapest_path_is_found() -> None:
    """Against the plain recursion, for matrices of several sizes at once."""
    import torch  # noqa: PLC0415 - seconds

    from voxroute_asr_whisperx.runtimes.torch_words import _entered  # noqa: PLC0415 - likewise

    sizes = [(4, 9), (7, 12), (1, 5), (7, 3)]
    random = np.random.default_rng(1)
    costs = random.standard_normal((len(sizes), 7, 12))
    rows, columns = (torch.tensor(numbers) for numbers in zip(*sizes, strict=True))
    found = _entered(torch.from_numpy(costs), rows, columns)
    for entered, matrix, (n_rows, n_columns) in zip(found, costs, sizes, strict=True):
        assert entered[:n_rows].tolist() == path(matrix[:n_rows, :n_columns])


def path(costs: np.ndarray) -> list[int]:
    """The column at which the cheapest path enters each row, by openai-whisper's recursion."""
    n, m = costs.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0
    for i, j in itertools.product(range(n), range(m)):
        total[i + 1, j + 1] = costs[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    entered = [0] * n
    i, j = n, m
    while i > 0:
        entered[i - 1] = j - 1
        steps = {(i - 1, j - 1): total[i - 1, j - 1], (i - 1, j): total[i - 1, j],
                 (i, j - 1): total[i, j - 1]}  # fmt: skip
        i, j = min(steps, key=lambda step: steps[step])
    return entered


def test_weights_of_8_bits_are_multiplied_out() -> None:
    """Each row of a matrix has a scale, by which it was multiplied."""
    stored = {
        "linear/weight": np.array([[127, -64], [10, 0]], np.int8),
        "linear/weight_scale": np.array([127.0, 20.0], np.float32),
        "norm/gamma": np.ones(2, np.float16),
    }
    assert floating(stored, "linear/weight") == pytest.approx(
        np.array([[1.0, -64 / 127], [0.5, 0.0]])
    )
    assert floating(stored, "norm/gamma") is stored["norm/gamma"]


def test_another_version_of_the_file_is_refused(tmp_path: Path) -> None:
    """By its version, not by what would be made of it."""
    spec = b"WhisperSpec\0"
    path = tmp_path / "model.bin"
    path.write_bytes(struct.pack("<IH", 7, len(spec)) + spec)
    with pytest.raises(ValueError, match="version 7 of a WhisperSpec"):
        read_variables(path)
