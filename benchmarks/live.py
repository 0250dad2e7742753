# pyright: basic
"""Live speech: how late its text is, how good, for how many streams at once, and for how long.

Recordings are sent at the pace of speech. With the weights of `make real-models` the text is held
against what is said, and times are those of the committed words; speech whose words are marked in
its lowest bits, and an engine that reads them, stand for the scale that a small machine has not.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import grpc
import numpy as np
import psutil
from google.protobuf.duration_pb2 import Duration

from benchmarks import product
from benchmarks.films import SAMPLE_RATE, make_film, samples_of
from benchmarks.live_feeds import Heard, feed, feeds
from benchmarks.recordings import (
    HOW_TO_GET,
    REAL_MODELS,
    SpeechSet,
    lost_and_doubled,
    speech_sets,
    word_error_rate,
)
from benchmarks.sounds import pink
from benchmarks.table import table
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute_serving.testing.fake_engine import DEFAULT_MODEL
from voxroute_serving.testing.marked_speech import SaidWord, marked, text_of

PARTS = ("text", "streams", "film", "silence", "killed", "long", "scale")
STREAMS = (1, 2, 4, 8, 16, 24, 32, 48, 64)
SILENCE_S = 0.6  # the pause that ends an utterance
KEEPALIVE_S = 30.0  # after which the place of a client that has vanished is free
WORD_S, GAP_S, PAUSE_S = 0.3, 0.08, 0.9
# Word error rates, at most so much above that of the same recording as a file
COMMITTED_WER, REFINED_WER = 0.02, 0.005
HEADINGS = (
    "",
    "streams",
    "D s",
    "windows",
    "d s",
    "p50 s",
    "p95 s",
    "limit p50",
    "limit p95",
    "holds",
)


def main(arguments: Sequence[str]) -> bool:
    """Prints the tables; whether the promises hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks live", description=__doc__)
    parser.add_argument("--model", type=Path, default=REAL_MODELS / "whisper-tiny.en")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--language", default="en")
    parser.add_argument("--interval", type=float, default=1.0, help="D, seconds")
    parser.add_argument("--seconds", type=float, default=180, help="of the recordings")
    parser.add_argument("--hours", type=float, default=4, help="of the long stream")
    parser.add_argument("--pace", type=float, default=20, help="of the long stream")
    parser.add_argument("--real", action="store_true", help="the long stream with real weights")
    parser.add_argument("--counts", default=STREAMS, type=_counts, help="streams at once: 1,8,32")
    parser.add_argument("--parts", default=",".join(PARTS))
    given = parser.parse_args(arguments)
    fine = True
    for name in given.parts.split(","):
        print(f"\n## {name}\n", flush=True)
        kept = globals()[f"_{name}"](given)
        print(f"\n{'holds' if kept else 'DOES NOT HOLD'}", flush=True)
        fine = fine and kept
    return fine


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


# --- real weights ---------------------------------------------------------------------------------


@contextmanager
def _real(given: argparse.Namespace, *flags: str) -> Iterator[tuple[product.Service, SpeechSet]]:
    """A service, and a recording of its language."""
    sets = speech_sets(given.language)
    if not given.model.is_dir() or not sets:
        raise SystemExit(f"no recordings or no {given.model}: {HOW_TO_GET}")
    with tempfile.TemporaryDirectory(prefix="vx") as temporary:
        folder = Path(temporary)
        recording = make_film(folder / f"{given.language}-film.flac", sets, given.seconds)
        with product.service("whisperx", given.model, given.device, folder, flags) as running:
            yield running, recording


def _text(given: argparse.Namespace) -> bool:
    """One stream: how late its text is, and how good, beside the same recording as a file."""
    with _real(given) as (running, recording):
        samples = samples_of(recording.path)
        offline = product.called(running, recording)
        heard, latency = _together(running, [samples], given, refine=True)
    said = recording.text
    texts = {
        "as a file": " ".join(text for _, _, text in offline.segments),
        "committed": heard[0].text,
        "refined": heard[0].final_text,
    }
    rates = {name: word_error_rate(said, text) for name, text in texts.items()}
    print(table(HEADINGS, [latency]))
    shown = [word.late_s for word in heard[0].tentative]
    print(
        f"\ntentative words after {_percentile(shown, 50):.2f} s, "
        f"{heard[0].n_changed / max(1, heard[0].n_tentative):.0%} of them changed;"
        f" no sentence later than {_worst_end(heard[0], recording):.2f} s after its end\n"
    )
    print(table(("text", "word error rate"), [[n, f"{rate:.1%}"] for n, rate in rates.items()]))
    return (
        latency[-1] == "yes"
        and rates["committed"] <= rates["as a file"] + COMMITTED_WER
        and rates["refined"] <= rates["as a file"] + REFINED_WER
    )


def _streams(given: argparse.Namespace) -> bool:
    """As many streams as keep the promise, in batches and one at a time."""
    places = ("--max-live-streams", str(max(given.counts)))

    @contextmanager
    def started(*flags: str) -> Iterator[tuple[product.Service, np.ndarray]]:
        with _real(given, *places, *flags) as (running, recording):
            yield running, samples_of(recording.path)

    return _in_batches_or_not(started, given)


def _in_batches_or_not(
    started: Callable[..., AbstractContextManager[tuple[product.Service, np.ndarray]]],
    given: argparse.Namespace,
) -> bool:
    """Whether batches serve as many streams as was promised, and three times those of one each.

    `started` takes a service's flags, and gives it with a recording.
    """
    most: dict[str, int] = {}
    rows: list[list[str]] = []
    wanted = 0.0
    for name, flags in (("in batches", ()), ("one at a time", ("--max-batch", "1"))):
        with started(*flags) as (running, samples):
            many = [samples] * max(given.counts)
            most[name], window_s = _most_streams(name, running, many, given, rows)
            if window_s and not wanted:
                wanted = 0.8 * given.interval / window_s
    print(table(HEADINGS, rows))
    batched, single = most["in batches"], most["one at a time"]
    print(f"\nin batches {batched} streams, one at a time {single}; 0.8 D / c = {wanted:.1f}")
    return batched >= max(1, min(wanted, max(given.counts))) and batched >= 3 * single


def _most_streams(
    name: str,
    running: product.Service,
    recordings: Sequence[np.ndarray],
    given: argparse.Namespace,
    rows: list[list[str]],
) -> tuple[int, float]:
    """The most streams that keep the promise, and the device's seconds for a window then."""
    most, window_s = 0, 0.0
    for n in given.counts:
        shifted = [np.roll(one, -i * SAMPLE_RATE * 7) for i, one in enumerate(recordings[:n])]
        _, row = _together(running, shifted, given)
        rows.append([name, *row[1:]])
        print(*rows[-1], flush=True)
        if row[-1] != "yes":
            break
        most, window_s = n, _window_s(running.target)
    return most, window_s


def _film(given: argparse.Namespace) -> bool:
    """Four streams and a film, alone and beside each other."""
    with _real(given) as (running, recording), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        samples = samples_of(recording.path)
        film = make_film(folder / "en-film.flac", speech_sets(given.language), 4 * given.seconds)
        alone_s = product.transcribed(running, film, folder / "alone").reading.wall_s
        four = [np.roll(samples, -i * SAMPLE_RATE * 7) for i in range(4)]
        quiet, quiet_row = _together(running, four, given)
        beside: list[float] = []

        def films() -> None:
            until, n = time.monotonic() + given.seconds, 0
            while time.monotonic() < until:
                n += 1
                outcome = product.transcribed(running, film, folder / f"beside{n}")
                if time.monotonic() < until + 1 or not beside:
                    beside.append(outcome.reading.wall_s)

        thread = threading.Thread(target=films)
        thread.start()
        busy, busy_row = _together(running, four, given)
        thread.join()
        rows = [["alone", *quiet_row[1:]], ["beside a film", *busy_row[1:]]]
    print(table(HEADINGS, rows))
    p95 = [_percentile(_late(one), 95) for one in (quiet, busy)]
    share = alone_s / statistics.median(beside)
    print(f"\np95 beside a film {p95[1] / p95[0]:.2f} times that alone; the film at {share:.0%}")
    return p95[1] <= 1.5 * p95[0] and share >= 0.7  # noqa: PLR2004 - as promised


def _silence(given: argparse.Namespace) -> bool:
    """Ten minutes of silence, hum and noise: nothing is committed."""
    rng = np.random.default_rng(0)
    n = 200 * SAMPLE_RATE
    sounds = [np.zeros(n), 0.003 * rng.normal(size=n), 0.01 * pink(rng, n)]
    samples = (np.concatenate(sounds) * 32767).astype("<i2")
    with _real(given) as (running, _):
        heard = asyncio.run(feed(running.target, samples, pace=20.0, **_config(given)))
    print(f"{len(samples) / SAMPLE_RATE:.0f} s: {len(heard.committed)} words committed")
    return not heard.committed and heard.done is not None


# --- marked speech --------------------------------------------------------------------------------


def _scale(given: argparse.Namespace) -> bool:
    """As `streams`, with an engine that takes 100 ms a batch and 5 ms for each of its windows."""
    del given
    settings = argparse.Namespace(interval=0.5, counts=STREAMS, language="en")

    @contextmanager
    def started(*flags: str) -> Iterator[tuple[product.Service, np.ndarray]]:
        with _marked("--batch-s", "0.1", "--window-s", "0.005", *flags) as running:
            yield running, _said(60.0)[0]

    return _in_batches_or_not(started, settings)


def _killed(given: argparse.Namespace) -> bool:
    """Kill -9 of one of five clients: its place is free, the others notice nothing."""
    del given
    settings = argparse.Namespace(interval=0.5, language="en")
    samples, _ = _said(40.0)
    with _marked("--batch-s", "0.1", "--window-s", "0.005", "--max-live-streams", "5") as running:
        before, _ = _together(running, [samples] * 4, settings)
        victim = subprocess.Popen([sys.executable, "-m", "benchmarks.live_feeds", running.target])
        free_after_s, was_full = float("nan"), False

        def kill() -> None:
            nonlocal free_after_s, was_full
            time.sleep(15)  # of the forty seconds of the others
            was_full = _is_full(running.target)
            victim.kill()
            killed_at = time.monotonic()
            while _is_full(running.target):
                time.sleep(0.1)
            free_after_s = time.monotonic() - killed_at

        thread = threading.Thread(target=kill)
        thread.start()
        after, _ = _together(running, [samples] * 4, settings)
        thread.join()
        victim.wait()
    p95 = [_percentile(_late(one), 95) for one in (before, after)]
    print(f"place free after {free_after_s:.1f} s; p95 of the others {p95[0]:.2f}, {p95[1]:.2f} s")
    return was_full and free_after_s <= KEEPALIVE_S and p95[1] <= 1.25 * p95[0]


def _is_full(target: str) -> bool:
    return "RESOURCE_EXHAUSTED" in asyncio.run(feed(target, np.zeros(0, "<i2"))).error


def _long(given: argparse.Namespace) -> bool:
    """Hours of one stream: memory, and every word once."""
    if given.real:
        with _real(given) as (running, recording):
            once = samples_of(recording.path)
            offline = product.called(running, recording)
            repeats = -(-int(given.hours * 3600 * SAMPLE_RATE) // len(once))
            heard, used = _watched(running, np.tile(once, repeats), 1.0, given)
        said = " ".join([recording.text] * repeats)
        as_a_file = " ".join([text for _, _, text in offline.segments] * repeats)
        rates = [word_error_rate(said, text) for text in (as_a_file, heard.text)]
        print(f"word error rate as a file {rates[0]:.1%}, of the committed text {rates[1]:.1%}")
        # what the model skips or says twice itself is not the stream's
        by_model, by_stream = (lost_and_doubled(said, text) for text in (as_a_file, heard.text))
        lost, twice = (max(0, n - own) for n, own in zip(by_stream, by_model, strict=True))
    else:
        settings = argparse.Namespace(interval=1.0, language="en")
        samples, words = _said(given.hours * 3600)
        with _marked("--batch-s", "0.001") as running:
            heard, used = _watched(running, samples, given.pace, settings)
        told = [word.text for word in heard.committed]
        expected = [text_of(word.number) for word in words]
        lost = len(set(expected) - set(told))
        twice = len(told) - len(set(told))
    late = [word.late_s for word in heard.committed]
    half = len(late) // 2
    slope = _slope(used)
    print(
        f"{given.hours:g} h: {len(heard.committed)} words, {lost} lost, {twice} twice; memory"
        f" {used[0][1] / 1e6:.0f} to {used[-1][1] / 1e6:.0f} MB, {slope / 1e6:+.2f} MB/h after the"
        f" first tenth; p50 {_percentile(late[:half], 50):.2f} s in the first half,"
        f" {_percentile(late[half:], 50):.2f} in the second{heard.error}"
    )
    return not (lost or twice or heard.error) and slope < 1e6  # noqa: PLR2004 - 1 MB/h


def _watched(
    running: product.Service, samples: np.ndarray, pace: float, given: argparse.Namespace
) -> tuple[Heard, list[tuple[float, int]]]:
    """What a stream was told, and (hours of the stream, bytes) all along."""
    used: list[tuple[float, int]] = []
    done = threading.Event()
    began = time.monotonic()

    def watch() -> None:
        while not done.wait(60 / pace):
            hours = (time.monotonic() - began) * pace / 3600
            used.append((hours, _own_bytes(running.process)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        heard = asyncio.run(feed(running.target, samples, pace=pace, **_config(given)))
    finally:
        done.set()
        thread.join()
    return heard, used


def _own_bytes(process: psutil.Process) -> int:
    """Memory without that of files.

    Libraries' a host takes and gives back as it likes: on one that pages out what was not used for
    a while it moved by 90 MB an hour.
    """
    memory = process.memory_info()
    return memory.rss - getattr(memory, "shared", 0)  # Linux's


def _slope(used: Sequence[tuple[float, int]]) -> float:
    """Bytes an hour, by least squares; the first tenth fills caches and pools."""
    later = used[len(used) // 10 :]
    return float(np.polyfit([at for at, _ in later], [n for _, n in later], 1)[0])


def _said(length_s: float) -> tuple[np.ndarray, list[SaidWord]]:
    """Marked speech: sentences of eight words with a pause behind each."""
    voice = _voice()
    words: list[SaidWord] = []
    at_s = 0.5
    sound = np.zeros(round((length_s + 2) * SAMPLE_RATE), np.float32)
    number = 0
    while at_s < length_s:
        number += 1
        words.append(SaidWord(number, at_s, at_s + WORD_S))
        begin = round(at_s * SAMPLE_RATE)
        piece = voice[number % len(voice)]
        sound[begin : begin + len(piece)] = piece
        at_s += WORD_S + (PAUSE_S if text_of(number).endswith(".") else GAP_S)
        at_s = round(at_s * 50) / 50
    return marked(sound, words), words


def _voice() -> list[np.ndarray]:
    """Syllables that Silero takes for speech: the tests' buzz through moving formants."""
    from tests.serving.recordings import speech  # noqa: PLC0415 - scipy takes a second

    return [speech(WORD_S, seed) for seed in range(40)]


@contextmanager
def _marked(*flags: str) -> Iterator[product.Service]:
    """A service that reads marks."""
    with tempfile.TemporaryDirectory(prefix="vx") as temporary:
        folder = Path(temporary)
        with product.service("marked", Path(DEFAULT_MODEL), "cpu", folder, flags) as running:
            yield running


# --- figures --------------------------------------------------------------------------------------


def _config(given: argparse.Namespace) -> dict:
    return {
        "language": given.language,
        "update_interval": Duration(
            nanos=round(given.interval * 1e9) % 10**9, seconds=int(given.interval)
        ),
    }


def _together(
    running: product.Service,
    recordings: Sequence[np.ndarray],
    given: argparse.Namespace,
    **config: bool,
) -> tuple[list[Heard], list[str]]:
    """What so many streams at once were told, and a row of figures."""
    before = _batches(running)
    together = feeds(running.target, recordings, tentative=True, **config, **_config(given))
    heard = asyncio.run(together)
    return heard, _latency(heard, given.interval, _batches(running) - before)


def _late(heard: Sequence[Heard]) -> list[float]:
    return [word.late_s for one in heard for word in one.committed]


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if len(values) else float("nan")


def _batches(running: product.Service) -> np.ndarray:
    """(3,): how many batches a service has told of, their windows, and their seconds."""
    with urllib.request.urlopen(f"http://{running.metrics}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("voxroute_batch_"))
    names = ("inference_seconds_count", "size_sum", "inference_seconds_sum")
    return np.array([float(found[f"voxroute_batch_{name}"]) for name in names])


def _latency(heard: Sequence[Heard], wanted_s: float, batches: np.ndarray) -> list[str]:
    """A row: how late committed words were, beside what is promised."""
    intervals = [one for h in heard for one in h.intervals] or [wanted_s]
    interval_s = statistics.mean(intervals)
    size, batch_s = batches[1:] / max(1, batches[0])
    p50, p95 = (_percentile(_late(heard), share) for share in (50, 95))
    limit50 = 1.5 * interval_s + batch_s + 0.2
    limit95 = max(3 * interval_s + batch_s, SILENCE_S + batch_s + 0.3)
    holds = p50 <= limit50 and p95 <= limit95 and not any(one.error for one in heard)
    # an interval that has grown means that the device does not keep up with the one asked for
    holds = holds and interval_s <= 1.1 * wanted_s
    figures = [f"{x:.2f}" for x in (batch_s, p50, p95, limit50, limit95)]
    verdict = "yes" if holds else "no"
    return ["", str(len(heard)), f"{interval_s:.2f}", f"{size:.1f}", *figures, verdict]


def _worst_end(heard: Heard, recording: SpeechSet) -> float:
    """How late the last word of any sentence came, by the times of the recording."""
    worst = 0.0
    for sentence in recording.sentences:
        inside = [w for w in heard.committed if sentence.start_s < w.end_s <= sentence.end_s + 0.2]
        if inside:
            last = max(inside, key=lambda word: word.end_s)
            worst = max(worst, last.late_s + last.end_s - sentence.end_s)
    return worst


def _window_s(target: str) -> float:
    with grpc.insecure_channel(target) as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        told = stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest())
    return told.limits.live_update_time.ToMicroseconds() / 1e6
