# pyright: basic
"""The services and the command, run as people run them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil

from benchmarks.meters import measured
from benchmarks.peers import Outcome, Segment
from benchmarks.recordings import SpeechSet
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2

ENGINES = {
    "whisperx": "voxroute_asr_whisperx",
    "mlx": "voxroute_asr_mlx",
    "marked": "benchmarks.marked_service",
}
READY_S = 900.0  # on a busy host; only a service that hangs waits so long
_CHUNK = 256 * 1024
COMMAND = (sys.executable, "-m", "voxroute_orchestrator")


@dataclass(frozen=True, slots=True)
class Service:
    """A running speech service."""

    target: str
    process: psutil.Process
    metrics: str
    """HOST:PORT"""


@contextmanager
def service(
    engine: str,
    model: Path,
    device: str,
    folder: Path,
    flags: Sequence[str] = (),
    **environment: str,
) -> Iterator[Service]:
    """A speech service with a model loaded, on a socket in the folder; its log beside it."""
    target = f"unix:{folder / f'{engine}.sock'}"
    arguments = ["--model", str(model), "--device", device, "--listen", target, "--offline"]
    with (folder / f"{engine}.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", ENGINES[engine], *arguments),
                *("--metrics-listen", "127.0.0.1:0", *flags),
            ],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )
    try:
        _until_serving(target, process, folder / f"{engine}.log")
        listening = next(
            line
            for line in (folder / f"{engine}.log").read_text().splitlines()
            if line.startswith('{"event": "listening"')
        )
        yield Service(target, psutil.Process(process.pid), json.loads(listening)["metrics"])
    finally:
        process.terminate()
        process.wait()


def _until_serving(target: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    check = [sys.executable, "-m", "voxroute_serving.healthcheck", target]
    while subprocess.run(check, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the service does not answer:\n{log.read_text()[-2000:]}")
        time.sleep(0.3)


def transcribed(one: Service, speech: SpeechSet, folder: Path, times: int = 1) -> Outcome:
    """What `voxroute transcribe` does with a recording over a service, its own start included.

    `times` commands do so at once, and the segments are those of one. Raises RuntimeError.
    """
    folders = [folder / str(number) for number in range(times)]
    with measured([one.process]) as reading:
        commands = [
            subprocess.Popen(
                [
                    *(*COMMAND, "transcribe", str(speech.path), "-s", speech.language),
                    *("-o", str(into), "--overwrite", "--quiet", "--asr-endpoint", one.target),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for into in folders
        ]
        errors = [command.communicate()[1] for command in commands]
    if any(command.returncode for command in commands):
        raise RuntimeError(f"the command failed:\n{max(errors, key=len)[-2000:]}")
    transcript = json.loads(next(folders[0].glob("*.transcript.json")).read_text(encoding="utf-8"))
    return Outcome(
        reading,
        tuple((s["start_s"], s["end_s"], s["text"]) for s in transcript["segments"]),
        tuple(tuple(s["flags"]) for s in transcript["segments"]),
        tuple((one["start_s"], one["end_s"]) for one in transcript["untranscribed"]),
    )


def call(
    channel: grpc.Channel, recording: Path, **config: Any
) -> Iterator[asr_pb2.TranscribeResponse]:
    """The answers to one call that sends a recording, whose container tells its format."""

    def requests() -> Iterator[asr_pb2.TranscribeRequest]:
        audio = asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat())
        yield asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(audio=audio, **config))
        with recording.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield asr_pb2.TranscribeRequest(audio=chunk)
        yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())

    return asr_pb2_grpc.AsrServiceStub(channel).Transcribe(requests())


def called(one: Service, speech: SpeechSet, languages: Sequence[str] = ()) -> Outcome:
    """What a service does with a recording that one call sends it, without the command.

    In the recording's language, or each window in one of several.
    """
    language = "" if languages else speech.language

    def times(told: asr_pb2.Segment | asr_pb2.Untranscribed) -> tuple[float, float]:
        return told.start.ToMilliseconds() / 1000, told.end.ToMilliseconds() / 1000

    segments: list[Segment] = []
    flags: list[tuple[str, ...]] = []
    told: list[tuple[float, float]] = []
    with grpc.insecure_channel(one.target) as channel, measured([one.process]) as reading:
        for answer in call(channel, speech.path, language=language, allowed_languages=languages):
            if answer.HasField("segment"):
                segments.append((*times(answer.segment), answer.segment.text))
                names = map(asr_pb2.SegmentFlag.Name, answer.segment.flags)
                flags.append(tuple(name.removeprefix("SEGMENT_FLAG_") for name in names))
            elif answer.HasField("untranscribed"):
                told.append(times(answer.untranscribed))
    return Outcome(reading, tuple(segments), tuple(flags), tuple(told))
