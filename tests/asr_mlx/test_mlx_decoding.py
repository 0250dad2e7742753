# pyright: basic
"""Decoding of batches, on a real tiny model with random weights: rules, ends, memory, threads."""

import threading
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_whisper.timing import dtw_cpu
from mlx_whisper.tokenizer import get_tokenizer

from voxroute_asr_mlx import decoding, whisper
from voxroute_asr_mlx.decoding import Decoded, Decoder, Prompt
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.memory import is_out_of_memory
from voxroute_asr_mlx.network import Network
from voxroute_asr_mlx.whisper import MlxWhisperModel
from voxroute_asr_mlx.words import warp
from voxroute_serving.device import DeviceThread
from voxroute_serving.engine import AlignmentRequest, DecodingOptions, Samples
from voxroute_serving.errors import EngineError, UnsupportedError

TOKENIZER = get_tokenizer(True, num_languages=99, language="hi", task="transcribe")
ANYTHING_GOES = {
    "compression_ratio_threshold": 100.0,
    "log_prob_threshold": -100.0,
    "no_speech_threshold": 1.0,
}


def never() -> bool:
    """The result is wanted."""
    return False


def options_of(**fields: object) -> DecodingOptions:
    """Options under which a random model's text passes every check."""
    return DecodingOptions(
        **{"language": "hi", "temperatures": (0.0,), **ANYTHING_GOES, **fields}  # type: ignore[arg-type] - checked by the dataclass's users
    )


@pytest.fixture(scope="module")
def model(engine: MlxWhisperEngine) -> MlxWhisperModel:
    """The random model, loaded in the tests' own thread."""
    loaded = engine.load(engine.resolve(""), lambda _: None)
    assert isinstance(loaded, MlxWhisperModel)
    return loaded


@pytest.mark.parametrize("temperatures", [(0.0,), pytest.param((0.7,), marks=pytest.mark.slow)])
def test_a_batch_gives_what_each_window_gives_alone(
    model: MlxWhisperModel, noise: list[Samples], temperatures: tuple[float, ...]
) -> None:
    """Companions change no text and no time, sampling included."""
    options = options_of(temperatures=temperatures)
    windows = noise[1:3]
    together = model.transcribe(windows, options, never)
    alone = [model.transcribe([one], options, never)[0] for one in windows]
    assert [[(s.text, s.start_s, s.end_s) for s in r.segments] for r in together] == [
        [(s.text, s.start_s, s.end_s) for s in r.segments] for r in alone
    ]
    assert any(result.segments for result in together)


def test_a_reused_prompt_changes_the_text(model: MlxWhisperModel, noise: list[Samples]) -> None:
    """The initial prompt and hot words reach the decoder."""
    plain, prompted, hot = (
        model.transcribe(noise[:1], options_of(**fields), never)[0].segments
        for fields in ({}, {"initial_prompt": "नमस्ते दोस्तो"}, {"hotwords": ("Ravi", "Meena")})
    )
    assert prompted[0].avg_log_prob != plain[0].avg_log_prob
    assert hot[0].avg_log_prob not in (plain[0].avg_log_prob, prompted[0].avg_log_prob)


def test_a_prompt_takes_at_most_half_of_the_context() -> None:
    """The end of a long prompt and the first hot words count; the task stands behind them."""
    prompt = Prompt.of(TOKENIZER, 448, "far away " * 300 + "near", ["name"] * 300)
    assert len(prompt.tokens) == 1 + 223 + 3
    assert prompt.tokens[0] == TOKENIZER.sot_prev
    assert prompt.tokens[prompt.sot_index :] == TOKENIZER.sot_sequence
    assert TOKENIZER.decode(list(prompt.tokens[1 : prompt.sot_index])).endswith(" near")
    assert Prompt.of(TOKENIZER, 448, "", ()).tokens == TOKENIZER.sot_sequence


class Scripted(Network):
    """A network whose logits are written down: step by step for each row, whatever it hears."""

    def __init__(self, network: Network, favourites: Sequence[Sequence[dict[int, float]]]) -> None:
        self.__dict__.update(network.__dict__)
        self.favourites = favourites
        self.first = True
        self.rows_of_steps: list[int] = []
        self.step = 0

    def logits(self, hidden: mx.array) -> mx.array:
        logits = np.zeros((hidden.shape[0], self.dims.n_vocab), np.float32)
        if self.step < 2 and self.first:  # the first call is for the first token
            self.first = False
        elif self.step == 0:  # the second one asks for the probability of silence
            self.step = 1
            return mx.array(logits)
        for row in range(hidden.shape[0]):
            wanted = self.favourites[row]
            for token, logit in wanted[min(self.step, len(wanted) - 1)].items():
                logits[row, token] = logit
        self.rows_of_steps.append(hidden.shape[0])
        self.step += 0 if self.step == 0 else 1
        return mx.array(logits)


def decode_scripted(
    model: MlxWhisperModel, *favourites: Sequence[dict[int, float]]
) -> tuple[list[Decoded], Scripted]:
    """What comes out where the network would rather write the favourites."""
    scripted = Scripted(model._net, favourites)
    decoder = Decoder(scripted, TOKENIZER, Prompt.of(TOKENIZER, 448, "", ()))
    features = mx.zeros((len(favourites), 1500, 64))
    results = decoder.decode(features, 0.0, never, [mx.default_stream(mx.cpu)])
    return results, scripted


BEGIN, END = TOKENIZER.timestamp_begin, TOKENIZER.eot


def test_timestamps_never_go_back(model: MlxWhisperModel) -> None:
    """A segment ends after it began, whatever the network would rather write."""
    (result,), _ = decode_scripted(
        model,
        [
            {BEGIN + 40: 50.0},
            {1000: 50.0},
            {BEGIN + 10: 60.0, BEGIN + 100: 50.0},  # back is likelier, and forbidden
            {END: 50.0},
        ],
    )
    assert result.tokens == (BEGIN + 40, 1000, BEGIN + 100)


def test_text_follows_an_opening_timestamp(model: MlxWhisperModel) -> None:
    """After a pair of timestamps text must come, even where a third one is likelier.

    mlx-whisper forbids every token there and goes on with "!" and a probability of NaN.
    """
    (result,), _ = decode_scripted(
        model,
        [
            {BEGIN: 50.0},
            {1000: 50.0},
            {BEGIN + 50: 50.0},
            {BEGIN + 50: 50.0},
            {BEGIN + 60: 90.0, 2000: 50.0},
            {BEGIN + 80: 50.0},
            {END: 50.0},
        ],
    )
    assert result.tokens == (BEGIN, 1000, BEGIN + 50, BEGIN + 50, 2000, BEGIN + 80)
    assert np.isfinite(result.avg_log_prob)


def test_a_window_begins_with_an_early_timestamp(model: MlxWhisperModel) -> None:
    """The first token is a timestamp of at most one second."""
    (result,), _ = decode_scripted(
        model, [{1000: 90.0, BEGIN + 500: 80.0, BEGIN + 7: 50.0}, {END: 50.0}]
    )
    assert result.tokens == (BEGIN + 7,)


def test_timestamps_together_outweigh_a_token(model: MlxWhisperModel) -> None:
    """Where all times together are likelier than any text, a time is written (Whisper's rule)."""
    spread = {BEGIN + 100 + i: 10.0 for i in range(100)}
    (result,), _ = decode_scripted(
        model,
        [{BEGIN: 50.0}, {1000: 50.0}, {2000: 12.0, **spread, BEGIN + 150: 10.5}, {END: 50.0}],
    )
    assert result.tokens == (BEGIN, 1000, BEGIN + 150)


def test_rows_that_have_ended_leave_the_batch(model: MlxWhisperModel) -> None:
    """Short rows end on their own and cost nothing while a long one goes on."""
    short = [{BEGIN: 50.0}, {1000: 50.0}, {BEGIN + 50: 50.0}, {END: 50.0}]
    long = [{BEGIN: 50.0}, *({1000 + i: 50.0} for i in range(20)), {BEGIN + 90: 50.0}, {END: 50.0}]
    (first, second), scripted = decode_scripted(model, long, short)
    assert second.tokens == (BEGIN, 1000, BEGIN + 50)
    assert first.tokens == (BEGIN, *range(1000, 1020), BEGIN + 90)
    assert scripted.rows_of_steps[:4] == [2, 2, 2, 2]
    assert set(scripted.rows_of_steps[5:]) == {1}


def test_a_text_that_never_ends_is_cut(model: MlxWhisperModel) -> None:
    """At most half of the context is written."""
    (result,), _ = decode_scripted(model, [{BEGIN: 50.0}, {1000: 50.0}])
    assert len(result.tokens) == 224


def test_sampling_differs_from_step_to_step(model: MlxWhisperModel, noise: list[Samples]) -> None:
    """Samples are drawn anew at every step, and the same again for the same window."""
    options = options_of(temperatures=(1.0,))
    first, again = (model.transcribe(noise[:1], options, never)[0] for _ in range(2))
    assert first == again
    features = model._encode([model._window(noise[0]).mel])
    decoder = Decoder(model._net, TOKENIZER, Prompt.of(TOKENIZER, 448, "", ()))
    hot = decoder.decode(features, 50.0, never, model._streams)[0].tokens
    assert len(set(hot)) > len(hot) * 0.9


def test_a_failing_window_falls_back_alone(
    model: MlxWhisperModel, noise: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only windows that fail a check are decoded again, at the next temperature."""
    tried: list[tuple[int, float]] = []
    decode = Decoder.decode

    def counted(
        self: Decoder, features: mx.array, temperature: float, *rest: object
    ) -> list[Decoded]:
        tried.append((features.shape[0], temperature))
        return decode(self, features, temperature, *rest)  # type: ignore[arg-type] - passed on

    monkeypatch.setattr(Decoder, "decode", counted)
    plain = model.transcribe(noise[:2], options_of(), never)
    likelihoods = [result.segments[0].avg_log_prob for result in plain]
    assert likelihoods[0] != likelihoods[1]
    tried.clear()
    between = sum(p for p in likelihoods if p is not None) / 2
    worse = min(range(2), key=lambda i: likelihoods[i] or 0)
    results = model.transcribe(
        noise[:2],
        options_of(temperatures=(0.0, 0.4), log_prob_threshold=between),
        never,
    )
    assert tried[:2] == [(2, 0.0), (1, 0.4)]
    better = results[1 - worse].segments[0]
    assert (better.temperature, better.avg_log_prob) == (0.0, likelihoods[1 - worse])


def test_the_checks_are_those_of_openai_whisper() -> None:
    """Loops and unlikely texts fail; an unlikely text in probable silence is silence."""
    options = DecodingOptions("hi")

    def checked(ratio: float, log_prob: float, no_speech: float) -> tuple[bool, bool]:
        result = Decoded((), "", log_prob, no_speech, ratio, 0.0)
        return whisper._fails(result, options), whisper._is_silent(result, options)

    assert checked(1.0, -0.3, 0.1) == (False, False)
    assert checked(2.5, -0.3, 0.1) == (True, False)
    assert checked(1.0, -1.1, 0.1) == (True, False)
    assert checked(1.0, -1.1, 0.7) == (False, True)
    assert checked(2.5, -0.3, 0.7) == (True, False)


def test_stop_ends_a_batch_between_steps(model: MlxWhisperModel, noise: list[Samples]) -> None:
    """Once nobody waits, no further step is taken."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    model.transcribe(noise, options_of(), stop)
    assert asked < 12


def test_words_are_in_order_and_inside_their_segments(
    model: MlxWhisperModel, noise: list[Samples]
) -> None:
    """Whatever the attention looks like, words stand in their segment, segments in the window."""
    results = model.transcribe(noise, options_of(word_timestamps=True), never)
    assert any(segment.words for result in results for segment in result.segments)
    for window, result in zip(noise, results, strict=True):
        for segment in result.segments:
            assert 0 <= segment.start_s < segment.end_s <= len(window) / 16000 + 1e-9
            floor_s = segment.start_s
            for word in segment.words:
                assert floor_s <= word.start_s <= word.end_s <= segment.end_s
                assert word.confidence is not None
                assert 0 <= word.confidence <= 1
                floor_s = word.end_s


def test_alignment_keeps_every_word(model: MlxWhisperModel, noise: list[Samples]) -> None:
    """The words of a known text come back in order; an unknown language is refused."""
    text = "मैं कल घर जाऊँगा। Well, 42!"
    aligned, nothing = model.align(
        [AlignmentRequest(noise[0], text, "hi"), AlignmentRequest(noise[0], "  ", "hi")]
    )
    assert " ".join(word.text for word in aligned) == text
    assert nothing == ()
    with pytest.raises(UnsupportedError, match="'xx'"):
        model.align([AlignmentRequest(noise[0], text, "xx")])


def test_the_warping_path_is_mlx_whispers() -> None:
    """The numpy path equals that of mlx-whisper's compiled one."""
    rng = np.random.default_rng(3)
    for shape in ((1, 1), (1, 9), (7, 5), (30, 400)):
        costs = rng.standard_normal(shape).astype(np.float32)
        rows, columns = warp(costs)
        expected = dtw_cpu.py_func(costs.astype(np.float64))
        assert (rows.tolist(), columns.tolist()) == (expected[0].tolist(), expected[1].tolist())


def test_language_probabilities_sum_to_one(model: MlxWhisperModel, noise: list[Samples]) -> None:
    """Each window has its own probabilities, for the model's languages alone."""
    rows = model.detect_language(noise)
    assert len(rows) == len(noise)
    assert all(set(row) == set(model.languages) for row in rows)
    assert [sum(row.values()) for row in rows] == pytest.approx([1.0] * 4, abs=1e-3)
    assert rows[0] != rows[1]


def test_options_that_cannot_be_honoured_are_named(model: MlxWhisperModel) -> None:
    """Beam search is ignored with a reason, and everything else gets Whisper's defaults."""
    applied, ignored = model.effective_options(DecodingOptions("hi", beam_size=5))
    assert [one.field for one in ignored] == ["decoding.beam_size"]
    assert applied == DecodingOptions(
        "hi",
        beam_size=1,
        temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        compression_ratio_threshold=2.4,
        log_prob_threshold=-1.0,
        no_speech_threshold=0.6,
    )
    assert model.effective_options(applied) == (applied, ())


@pytest.mark.parametrize(
    "message",
    [
        (
            "[metal::malloc] Attempting to allocate 40000000000 bytes which is greater than the"
            " maximum allowed buffer size of 20000000000 bytes."
        ),
        (
            "[METAL] Command buffer execution failed: Insufficient Memory"
            " (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
        ),
        "[malloc_or_wait] Unable to allocate 40000000000 bytes.",
        "cudaMallocAsync(&data, size, stream) failed: out of memory",
    ],
)
def test_out_of_memory_is_recognised(message: str) -> None:
    """MLX raises RuntimeError for everything; these texts mean memory."""
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(RuntimeError("There is no Stream(cpu, 0) in current thread."))


def test_an_unloaded_model_refuses_to_work(engine: MlxWhisperEngine, noise: list[Samples]) -> None:
    """Closing frees the weights; a late call is an error, not a crash."""
    model = engine.load(engine.resolve(""), lambda _: None)
    before = mx.get_active_memory()
    model.close()
    assert mx.get_active_memory() < before - 10_000_000  # the token embedding alone has 13 MB
    with pytest.raises(EngineError, match="unloaded"):
        model.transcribe(noise, options_of(), never)


async def test_a_model_works_on_the_device_thread(
    engine: MlxWhisperEngine, noise: list[Samples]
) -> None:
    """MLX binds arrays to the thread that made them: load and run on one, and another fails."""
    device = DeviceThread()
    model = await device.run(lambda: engine.load(engine.resolve(""), lambda _: None))
    results = await device.run(lambda: model.transcribe(noise[:1], options_of(), never))
    assert results[0].segments
    failures: list[Exception] = []

    def elsewhere() -> None:
        try:
            model.transcribe(noise[:1], options_of(), never)
        except EngineError as error:
            failures.append(error)

    other = threading.Thread(target=elsewhere)
    other.start()
    other.join()
    assert len(failures) == 1
    await device.run(model.close)
    assert await device.close()


def test_the_description_names_what_there_is(engine: MlxWhisperEngine, random_mlx: Path) -> None:
    """No beam search; the words of every language can be aligned; the default model is first."""
    description = engine.describe()
    missing = {feature.name for feature in type(next(iter(description.features)))} - {
        feature.name for feature in description.features
    }
    assert missing == {"BEAM_SEARCH"}
    assert description.name == "mlx-whisper"
    assert description.available_models[0].id == random_mlx.name
    assert {"hi", "en", "jv"} <= set(description.alignable_languages)
    assert description.device.memory_total_bytes


def test_compression_ratio_is_length_over_zlib_length() -> None:
    """A loop compresses far better than a sentence."""
    assert decoding.compression_ratio("ha " * 100) > 10
    assert decoding.compression_ratio("मैं कल घर जाऊँगा।") < 2.4
