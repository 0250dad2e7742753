# pyright: basic
"""What HTTP costs in front of the services, and what many clients at once do to the gateway.

Everything runs on this machine with the bundled models: times are those of the gateway against
direct gRPC in the same run. The load is clients of every kind on a service with few places, so that
most of them wait; `/health` is asked by a process of its own.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import grpc
import httpx2 as httpx
import psutil

from benchmarks import product
from benchmarks.speech import CLIP, EXAMPLES, MODEL, ROOT, by_turns, looped
from benchmarks.table import table

N_CLIENTS = 64
PLACES = 8
LOAD_S = 300.0
HALF_HOUR_S = 1800  # of the recording
ROUNDS, FIRST_ROUNDS = 3, 5  # for all of it, and for its first segment
UPLOAD_BYTES = 300 * 1024**2
PROMISED = {"ratio": 1.03, "later_s": 0.05, "health_s": 0.1, "bytes": 40e6}
"""At most: the time by HTTP against gRPC, by how much the first event comes later, the 99th
percentile of /health, and by how much the memory may grow."""
PATIENCE_S = 30.0  # of clients, without a sign of life
_RATE, _CHANNELS = 48_000, 2

_HEALTH = """\
import http.client, json, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
until, took = time.monotonic() + seconds, []
while time.monotonic() < until:
    began = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/health")
    assert connection.getresponse().read()
    connection.close()
    took.append(time.monotonic() - began)
    time.sleep(0.05)
print(json.dumps(took))
"""


@dataclasses.dataclass(frozen=True)
class Setup:
    """The processes that are measured."""

    asr: str
    """The speech service's address."""
    url: str
    process: psutil.Process
    """The gateway's."""

    def resident_bytes(self) -> int:
        """Resident memory of the gateway."""
        return self.process.memory_info().rss


@contextlib.contextmanager
def running(places: int) -> Iterator[Setup]:
    """A gateway in front of both services; the speech service has so many places."""
    with tempfile.TemporaryDirectory(prefix="vx") as name, contextlib.ExitStack() as stack:
        asr, translate = f"unix:{name}/a.sock", f"unix:{name}/t.sock"
        flags, folder = ["--device", "cpu", "--metrics-listen", "", "--listen"], Path(name)
        _start(stack, folder, "voxroute_asr_whisperx", "--model", str(MODEL), *flags, asr,
               "--max-concurrent-calls", str(places))  # fmt: skip
        models = str(ROOT / "models" / "translate-tiny-hi-en")
        _start(stack, folder, "voxroute_translate", "--models", models, *flags, translate)
        gateway = _start(
            stack, folder, "voxroute_gateway", "--listen", "127.0.0.1:0", "--metrics-listen", "",
            "--asr-endpoint", asr, "--translate-endpoint", translate, "--max-waiting", "256",
        )  # fmt: skip
        told = json.loads(gateway.stdout.readline())
        url = f"http://{told['addresses'][0]}"
        for path in ("/v1/models", "/languages"):  # it waits for the services
            httpx.get(url + path, timeout=300).raise_for_status()
        yield Setup(asr, url, psutil.Process(gateway.pid))


def _start(
    stack: contextlib.ExitStack, folder: Path, module: str, *arguments: str
) -> subprocess.Popen:
    """A process that ends with the stack, which raises RuntimeError where it has ended before."""
    log = folder / f"{module}.log"
    errors = stack.enter_context(log.open("w"))
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)

    def end() -> None:
        code = process.poll()
        process.terminate()
        process.communicate()
        if code is not None:
            raise RuntimeError(f"{module} ended with {code}: {log.read_text()[-2000:]}")

    stack.callback(end)
    return process


# --- one client


def _direct(setup: Setup, recording: Path, *, first: bool = False) -> str:
    """The text of a recording by gRPC, or its first segment."""
    texts: list[str] = []
    with grpc.insecure_channel(setup.asr) as channel:
        call = product.call(channel, recording, language="hi")
        for reply in call:
            if reply.HasField("segment"):
                texts.append(reply.segment.text)
                if first:
                    call.cancel()
                    break
    return " ".join(texts)


def transcription(url: str, recording: Path, client: httpx.Client, **fields: str) -> httpx.Response:
    """The answer to a recording by OpenAI's route."""
    with recording.open("rb") as file:
        return client.post(
            f"{url}/v1/audio/transcriptions", data=fields, files={"file": ("a", file)}
        )


def _by_http(setup: Setup, recording: Path, client: httpx.Client) -> str:
    return transcription(setup.url, recording, client, language="hi").json()["text"]


def _first_event(setup: Setup, recording: Path, client: httpx.Client) -> str:
    """The first segment that is streamed."""
    fields = {"language": "hi", "stream": "true"}
    with (
        recording.open("rb") as file,
        client.stream(
            "POST", f"{setup.url}/v1/audio/transcriptions", data=fields, files={"file": ("a", file)}
        ) as answer,
    ):
        for line in answer.iter_lines():
            if line.startswith("data: ") and '"transcript.text.segment"' in line:
                return json.loads(line.removeprefix("data: "))["text"]
    raise RuntimeError("the stream had no segment")


def silence(path: Path, n_bytes: int = UPLOAD_BYTES) -> Path:
    """A wave file of so many bytes, 48 kHz, without a sound."""
    with wave.open(str(path), "wb") as media:
        media.setparams((_CHANNELS, 2, _RATE, 0, "NONE", ""))
        for _ in range(n_bytes // 2**20):
            media.writeframes(bytes(2**20))
    return path


def upload_growth(setup: Setup, recording: Path) -> int:
    """By how many bytes the gateway's memory grows at most while a recording goes through it."""
    before = most = setup.resident_bytes()
    with httpx.Client(timeout=600) as client, ThreadPoolExecutor(1) as pool:
        answered = pool.submit(transcription, setup.url, recording, client, language="hi")
        while not answered.done():
            most = max(most, setup.resident_bytes())
            time.sleep(0.01)
        answered.result().raise_for_status()
    return most - before


# --- many clients


class LostError(Exception):
    """An answer that is not what was asked for."""


@dataclasses.dataclass
class Load:
    """What many clients at once came to."""

    calls: Counter[str] = dataclasses.field(default_factory=Counter)
    """Calls that went well, by kind."""
    lost: list[str] = dataclasses.field(default_factory=list)
    """What each call ended with that did not."""
    left: int = 0
    """Clients that went away on purpose."""
    health_s: list[float] = dataclasses.field(default_factory=list)
    """How long each answer of /health took, ascending."""
    memory: list[int] = dataclasses.field(default_factory=list)
    """The gateway's resident bytes, once a second."""

    @property
    def health_p99_s(self) -> float:
        """The 99th percentile of /health."""
        return self.health_s[int(len(self.health_s) * 0.99)]

    @property
    def memory_growth(self) -> int:
        """By how much the median of the last fifth is above that of the second, bytes."""
        fifth = max(1, len(self.memory) // 5)
        last, second = self.memory[-fifth:], self.memory[fifth : 2 * fifth]
        return round(statistics.median(last) - statistics.median(second or last))


def load(setup: Setup, seconds: float, n_clients: int = N_CLIENTS) -> Load:
    """Mixed clients, each with one call after the other, for so long."""
    found, lock, until = Load(), threading.Lock(), time.monotonic() + seconds
    host, _, port = setup.url.rpartition("/")[2].rpartition(":")

    def client(number: int) -> None:
        rng = random.Random(number)  # noqa: S311 - no secret
        kinds = itertools.cycle(rng.sample([*_CALLS, _LEAVING], len(_CALLS) + 1))
        with httpx.Client(timeout=PATIENCE_S) as http:
            while time.monotonic() < until:
                kind = next(kinds)
                try:
                    left = _called(kind, setup.url, http, rng)
                except (httpx.HTTPError, LostError) as error:
                    with lock:
                        found.lost.append(f"{kind}: {error!r}")
                else:
                    with lock:
                        found.left += left
                        if not left:
                            found.calls[kind] += 1

    with (
        subprocess.Popen(
            [sys.executable, "-c", _HEALTH, host, port, str(seconds)],
            stdout=subprocess.PIPE, text=True,
        ) as health,
        ThreadPoolExecutor(n_clients) as pool,
    ):  # fmt: skip
        working = [pool.submit(client, number) for number in range(n_clients)]
        while time.monotonic() < until:
            found.memory.append(setup.resident_bytes())
            time.sleep(1)
        for one in working:
            one.result()
        found.health_s = sorted(json.loads(health.communicate()[0]))
    return found


_SHORT = EXAMPLES / "evening.wav"
_HINDI = "मैं घर जाता हूँ।"


def _json(url: str, http: httpx.Client) -> httpx.Response:
    return transcription(url, _SHORT, http, model="whisper-1", language="en")


def _stream(url: str, http: httpx.Client) -> httpx.Response:
    return transcription(url, _SHORT, http, stream="true")


def _bazarr(url: str, http: httpx.Client) -> httpx.Response:
    with wave.open(str(_SHORT)) as media:
        files = {"audio_file": media.readframes(media.getnframes())}
    query = {"language": "en", "output": "srt", "encode": "false"}
    return http.post(f"{url}/asr", params=query, files=files)


def _language(url: str, http: httpx.Client) -> httpx.Response:
    return http.post(f"{url}/detect-language", files={"audio_file": _SHORT.read_bytes()})


def _translation(url: str, http: httpx.Client) -> httpx.Response:
    return http.post(f"{url}/translate", json={"q": _HINDI, "source": "hi", "target": "en"})


def _models(url: str, http: httpx.Client) -> httpx.Response:
    return http.get(f"{url}/v1/models")


_CALLS: dict[str, tuple[Callable[[str, httpx.Client], httpx.Response], str]] = {
    "json": (_json, '"text"'),
    "stream": (_stream, "data: [DONE]"),
    "bazarr": (_bazarr, "-->"),
    "language": (_language, '"language_code"'),
    "translation": (_translation, '"translatedText"'),
    "models": (_models, '"id"'),
}
"""What clients ask for, by kind, and what stands in a right answer."""
_LEAVING = "leaving"


def _called(kind: str, url: str, http: httpx.Client, rng: random.Random) -> bool:
    """Whether the client has gone away before its answer, as one of the kind _LEAVING does.

    Raises LostError where the answer is not what was asked for.
    """
    if kind == _LEAVING:
        with httpx.Client(timeout=httpx.Timeout(PATIENCE_S, read=rng.uniform(0.01, 1))) as own:
            try:
                transcription(url, CLIP, own)
            except httpx.ReadTimeout:
                return True
        return False
    call, sign = _CALLS[kind]
    answer = call(url, http)
    if answer.status_code != HTTPStatus.OK or sign not in answer.text:
        raise LostError(f"{answer.status_code}: {answer.text[-200:]}")
    return False


# --- the table


def main() -> bool:
    """Prints the table; whether no call was lost and what PROMISED says holds."""
    with (
        tempfile.TemporaryDirectory(prefix="vx") as name,
        running(PLACES) as setup,
        httpx.Client(timeout=600) as http,
    ):
        long = looped(Path(name) / "long.mka", HALF_HOUR_S)
        _direct(setup, CLIP), _by_http(setup, CLIP, http)  # neither is the first
        direct, by_http = by_turns(
            lambda: _direct(setup, long), lambda: _by_http(setup, long, http), n_turns=ROUNDS
        )
        segment, event = by_turns(
            lambda: _direct(setup, long, first=True),
            lambda: _first_event(setup, long, http),
            n_turns=FIRST_ROUNDS,
        )
        growth = upload_growth(setup, silence(Path(name) / "silence.wav"))
        loaded = load(setup, LOAD_S)
    direct_s, http_s, first_s, event_s = (
        statistics.median(runs.times_s) for runs in (direct, by_http, segment, event)
    )
    same = len(direct.texts | by_http.texts) == len(segment.texts | event.texts) == 1
    rows = [
        ("half an hour, gRPC", f"{direct_s:.2f} s", ""),
        ("the same by HTTP", f"{http_s:.2f} s", f"{http_s / direct_s:.2f}"),
        ("its first segment, gRPC", f"{first_s:.3f} s", ""),
        ("the first event", f"{event_s:.3f} s", f"{event_s / first_s:.2f}"),
        ("memory, upload of 300 MB", f"{growth / 1e6:+.1f} MB", ""),
        (f"memory, {N_CLIENTS} clients", f"{loaded.memory_growth / 1e6:+.1f} MB", ""),
        ("/health meanwhile, median", f"{statistics.median(loaded.health_s) * 1000:.0f} ms", ""),
        ("/health meanwhile, p99", f"{loaded.health_p99_s * 1000:.0f} ms", ""),
        ("calls", str(loaded.calls.total()), ""),
        ("clients that left on purpose", str(loaded.left), ""),
        ("lost calls", str(len(loaded.lost)), ""),
    ]
    load_of = f"{N_CLIENTS} clients for {LOAD_S:.0f} s"
    print(f"{MODEL.name}, {PLACES} places, {load_of}, {os.cpu_count()} processors\n")
    print(table(("", "", "ratio"), rows))
    for lost, n in Counter(loaded.lost).most_common(5):
        print(f"\nlost, {n} times: {lost}")
    print(f"\nidentical texts: {'yes' if same else 'NO'}")
    kept = (
        http_s / direct_s <= PROMISED["ratio"]
        and event_s - first_s <= PROMISED["later_s"]
        and loaded.health_p99_s < PROMISED["health_s"]
        and max(growth, loaded.memory_growth) < PROMISED["bytes"]
    )
    ratio, later_s, health_s, n_bytes = PROMISED.values()
    print(
        f"promised: a ratio of {ratio}, the first event {later_s * 1000:.0f} ms later, no call"
        f" lost, /health p99 below {health_s * 1000:.0f} ms, memory within {n_bytes / 1e6:.0f} MB"
    )
    return same and kept and not loaded.lost
