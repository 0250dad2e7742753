# pyright: basic
"""Decoding of batches, on a real tiny model with random weights: ends, times, memory, threads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_whisper.audio import log_mel_spectrogram
from mlx_whisper.timing import dtw_cpu, median_filter
from mlx_whisper.tokenizer import get_tokenizer

from tests.quiet import never
from voxroute_asr_mlx import convert, decoding, whisper, words
from voxroute_asr_mlx.decoding import AttendedText, Decoder, Prompt
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.hardware import FLOAT_TYPES
from voxroute_asr_mlx.network import Network
from voxroute_asr_mlx.whisper import MlxWhisperModel
from voxroute_serving.asr.engine import AlignmentRequest, DecodingOptions, WindowResult
from voxroute_serving.asr.text.segments import Piece
from voxroute_serving.asr.whisper.decoding import Decoded
from voxroute_serving.audio.samples import Samples
from voxroute_serving.device.batcher import DeviceThread
from voxroute_serving.device.failures import is_out_of_memory
from voxroute_serving.errors import EngineError, UnsupportedError

TOKENIZER = get_tokenizer(True, num_languages=99, language="hi", task="transcribe")
ANYTHING_GOES = {
    "compression_ratio_threshold": 100.0,
    "log_prob_threshold": -100.0,
    "no_speech_threshold": 1.0,
}


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
@pytest.mark.slow  # MLX decodes on a processor
def test_a_batch_gives_what_each_window_gives_alone(
    model: MlxWhisperModel, noise: list[Samples], temperatures: tuple[float, ...]
) -> None:
    """Companions change no text and no time, of no word, sampling included."""
    options = options_of(temperatures=temperatures, word_timestamps=True)
    windows = noise[1:3]
    together = model.transcribe(windows, options, never)
    alone = [model.transcribe([one.copy()], options, never)[0] for one in windows]

    def timed(results: Sequence[WindowResult]) -> list[list[tuple[str, float, float]]]:
        return [
            [
                (one.text, one.start_s, one.end_s)
                for segment in r.segments
                for one in (segment, *segment.words)
            ]
            for r in results
        ]

    assert timed(together) == timed(alone)
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
    task = (*TOKENIZER.sot_sequence, TOKENIZER.no_timestamps)
    prompt = Prompt.of(TOKENIZER, 448, "far away " * 300 + "near", ["name"] * 300)
    assert len(prompt.tokens) == 1 + 223 + 4
    assert prompt.tokens[0] == TOKENIZER.sot_prev
    assert prompt.tokens[prompt.sot_index :] == task
    assert TOKENIZER.decode(list(prompt.tokens[1 : prompt.sot_index])).endswith(" near")
    assert Prompt.of(TOKENIZER, 448, "", ()).tokens == task


class Scripted(Network):
    """A network whose logits are written down: step by step for each row, whatever it hears."""

    def __init__(self, network: Network, favourites: Sequence[Sequence[dict[int, float]]]) -> None:
        self.__dict__.update(network.__dict__)
        self.favourites = favourites
        self.rows_of_steps: list[int] = []
        self.step = -1  # the first call asks for the probability of silence

    def logits(self, hidden: mx.array) -> mx.array:
        logits = np.zeros((hidden.shape[0], self.dims.n_vocab), np.float32)
        if self.step >= 0:
            for row in range(hidden.shape[0]):
                wanted = self.favourites[row]
                for token, logit in wanted[min(self.step, len(wanted) - 1)].items():
                    logits[row, token] = logit
            self.rows_of_steps.append(hidden.shape[0])
        self.step += 1
        return mx.array(logits)


def decode_scripted(
    model: MlxWhisperModel, *favourites: Sequence[dict[int, float]]
) -> tuple[list[AttendedText], Scripted]:
    """What comes out where the network would rather write the favourites."""
    scripted = Scripted(model._net, favourites)
    decoder = Decoder(scripted, TOKENIZER, Prompt.of(TOKENIZER, 448, "", ()))
    features = mx.zeros((len(favourites), 1500, 64))
    results = decoder.decode(features, 0.0, never)
    return results, scripted


BEGIN, END = TOKENIZER.timestamp_begin, TOKENIZER.eot


def test_neither_times_nor_tasks_nor_sounds_are_written(model: MlxWhisperModel) -> None:
    """Whatever the network would rather write, it is text, and no "(" that opens a noise."""
    bracket = TOKENIZER.encode(" (")[0]
    (result,), _ = decode_scripted(
        model,
        [
            {BEGIN: 90.0, TOKENIZER.sot: 80.0, bracket: 70.0, 1000: 50.0},
            {BEGIN + 50: 90.0, 2000: 50.0},
            {TOKENIZER.translate: 90.0, END: 50.0},
        ],
    )
    assert result.tokens == (1000, 2000)
    assert result.log_probs == pytest.approx((0.0, 0.0), abs=1e-6)
    assert not result.is_cut_off


def test_no_window_is_declared_empty(model: MlxWhisperModel) -> None:
    """The first token is neither a blank nor the end; later ones may be (Whisper's rule)."""
    blank = TOKENIZER.encode(" ")[0]
    (result,), _ = decode_scripted(
        model, [{END: 90.0, blank: 80.0, 1000: 50.0}, {blank: 50.0}, {END: 50.0}]
    )
    assert result.tokens == (1000, blank)


def test_rows_that_have_ended_leave_the_batch(model: MlxWhisperModel) -> None:
    """Short rows end on their own and cost nothing while a long one goes on."""
    short = [{1000: 50.0}, {END: 50.0}]
    long = [*({1000 + i: 50.0} for i in range(20)), {END: 50.0}]
    (first, second), scripted = decode_scripted(model, long, short)
    assert second.tokens == (1000,)
    assert first.tokens == tuple(range(1000, 1020))
    assert scripted.rows_of_steps[:3] == [2, 2, 2]
    assert set(scripted.rows_of_steps[3:]) == {1}


def test_a_text_that_never_ends_is_cut(model: MlxWhisperModel) -> None:
    """At most half of the context is written, and it is told that this is not the end."""
    (result,), _ = decode_scripted(model, [{1000: 50.0}])
    assert len(result.tokens) == 64
    assert result.is_cut_off


def test_a_window_goes_on_where_its_text_was_cut_off() -> None:
    """Of a text without an end the last word is left to the rest of the window."""
    window = np.random.default_rng(0).standard_normal(480_000).astype(np.float32) * 0.1
    heard = [Piece(i * 0.5, i * 0.5 + 0.5, f" w{i}", 1.0) for i in range(20)]
    options = options_of()

    def result_of(*, is_cut_off: bool) -> WindowResult:
        decoded = Decoded((1,), "w0 w1", 0.0, -0.1, 0.0, 1.0, is_cut_off)
        return whisper._result(window, decoded, heard, options)

    whole, part = result_of(is_cut_off=False), result_of(is_cut_off=True)
    assert whole.rest_from_s is None
    assert whole.segments[-1].text.endswith("w19")
    assert part.segments[-1].text.endswith("w18")
    assert part.rest_from_s == pytest.approx(9.5)


@pytest.mark.slow  # MLX decodes on a processor
def test_sampling_differs_from_step_to_step(model: MlxWhisperModel, noise: list[Samples]) -> None:
    """Samples are drawn anew at every step, and the same again for the same window."""
    options = options_of(temperatures=(1.0,))
    first, again = (model.transcribe(noise[:1], options, never)[0] for _ in range(2))
    assert first == again
    features = model._encode([model._mel(noise[0])])
    decoder = Decoder(model._net, TOKENIZER, Prompt.of(TOKENIZER, 448, "", ()))
    hot = decoder.decode(features, 50.0, never)[0].tokens
    assert len(set(hot)) > len(hot) * 0.9


def test_a_call_decodes_at_the_first_temperature_alone(
    model: MlxWhisperModel, noise: list[Samples]
) -> None:
    """Whatever fails is decoded again by the service, which has the windows of all calls."""
    options = options_of(temperatures=(0.0, 0.4), log_prob_threshold=0.0)
    (result,) = model.transcribe(noise[:1], options, never)
    assert {segment.temperature for segment in result.segments} == {0.0}
    assert model.transcribe(noise[:1], options_of(), never) == [result]


def test_a_window_that_comes_again_is_not_encoded_again(
    model: MlxWhisperModel, noise: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for its language, not for another temperature; another window with equal sound is."""
    encoded: list[int] = []
    encode = MlxWhisperModel._encode

    def counted(self: MlxWhisperModel, mels: Sequence[mx.array]) -> mx.array:
        encoded.append(len(mels))
        return encode(self, mels)

    monkeypatch.setattr(MlxWhisperModel, "_encode", counted)
    first, second, other = noise[0].copy(), noise[3].copy(), noise[2].copy()
    model.detect_language([first, second])
    expected = model.transcribe([first.copy()], options_of(), never)
    encoded.clear()
    assert model.transcribe([first], options_of(), never) == expected
    model.transcribe([second, other], options_of(temperatures=(0.7,)), never)
    assert encoded == [1]
    kept = model._encoded._features
    del first, second
    model.detect_language([other.copy()])
    assert id(other) in model._encoded._features
    assert len(model._encoded._features) < len(kept)


def test_text_in_probable_silence_is_none() -> None:
    """An unlikely text where probably nobody speaks is silence; a loop is not (Whisper's rule)."""
    options = DecodingOptions("hi")

    def is_silent(log_prob: float, no_speech: float) -> bool:
        decoded = Decoded((), "", 0.0, log_prob, no_speech, 2.5, is_cut_off=False)
        return decoded.is_silent(options)

    assert is_silent(-1.1, 0.7)
    assert not is_silent(-1.1, 0.1)
    assert not is_silent(-0.3, 0.7)


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


def test_texts_aligned_together_get_the_times_that_each_gets_alone(
    model: MlxWhisperModel, noise: list[Samples]
) -> None:
    """Neither the length of a companion nor its language moves a word."""
    requests = [
        AlignmentRequest(noise[1], "मैं कल घर जाऊँगा।", "hi"),
        AlignmentRequest(noise[2], "Well, 42! And a good deal more than that.", "en"),
        AlignmentRequest(noise[3], "一二三。", "zh"),
    ]
    together = model.align(requests)
    for request, words_together in zip(requests, together, strict=True):
        (alone,) = model.align([request])
        assert [word.text for word in words_together] == [word.text for word in alone]
        for one, two in zip(words_together, alone, strict=True):
            assert (one.start_s, one.end_s) == pytest.approx((two.start_s, two.end_s), abs=0.021)
            assert one.confidence == pytest.approx(two.confidence, abs=1e-4)


@pytest.mark.parametrize(
    ("compute_type", "cpu_threads"),
    [("float32", None), ("float32", 1), ("float16", 1), ("int8", 1)],
)
def test_the_network_is_mlx_whispers(
    random_mlx: Path, noise: list[Samples], compute_type: str, cpu_threads: int | None
) -> None:
    """Features, logits and attention are those of the library, with MLX's products or numpy's."""

    def load() -> Any:
        loaded = convert.load(random_mlx, FLOAT_TYPES.get(compute_type, mx.float32))
        if compute_type == "int8":
            convert.quantize(loaded, 8)
        return loaded

    library, network = load(), Network(load(), cpu_threads)
    mel = log_mel_spectrogram(noise[1])
    features = library.encoder(mel[None])
    close(network.encode([mel])[0], features[0])
    tokens = mx.array([[*TOKENIZER.sot_sequence, TOKENIZER.no_timestamps, 1000, 2000, 3000]])
    logits, _, cross = library.decoder(tokens, features)
    caches = network.caches(features)
    start, attention = network.decode(tokens[:, :5], 0, caches)
    last, more = network.decode(tokens[:, 5:6], 5, caches)
    close(network.logits(start[0]), logits[0, :5])
    close(network.logits(last[0]), logits[0, 5:6])
    expected = mx.stack([cross[layer][0, head] for layer, head in ((1, 0), (1, 1))], axis=1)
    close(mx.concatenate([attention, more], axis=1)[0], expected[:6])


def close(one: mx.array, two: mx.array) -> None:
    """Asserts that two arrays are equal to within a hundredth of the values' spread."""
    a, b = (np.array(x.astype(mx.float32)) for x in (one, two))
    assert a.shape == b.shape
    assert np.abs(a - b).max() < 0.01 * b.std()


def test_the_path_through_the_attention_is_mlx_whispers() -> None:
    """Each row is entered where mlx-whisper's compiled path enters it."""
    rng = np.random.default_rng(3)
    for shape in ((1, 1), (1, 9), (9, 1), (7, 5), (30, 400)):
        costs = rng.standard_normal(shape).astype(np.float32)
        rows, columns = dtw_cpu.py_func(costs.astype(np.float64))
        jumps = np.diff(rows, prepend=-1).astype(bool)
        assert words.onsets(costs).tolist() == columns[jumps].tolist()


@pytest.mark.parametrize("n_positions", [3, 4, 7, 100])
def test_the_median_is_mlx_whispers(n_positions: int) -> None:
    """Minima and maxima leave the median of seven, mirrored at the ends."""
    x = np.random.default_rng(0).standard_normal((4, 3, n_positions)).astype(np.float32)
    assert np.array_equal(np.array(words._median(mx.array(x))), median_filter(x, 7))


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
        temperatures=(0.0, 0.6, 1.0),
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
    """MLX binds arrays to the thread that made them: loaded and run on that of the device."""
    device = DeviceThread()
    model = await device.run(lambda: engine.load(engine.resolve(""), lambda _: None))
    results = await device.run(lambda: model.transcribe(noise[:1], options_of(), never))
    assert results[0].segments
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
