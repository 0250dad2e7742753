"""Memory does not grow with the length of the film."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil
import pysubs2
import pytest

from benchmarks.speech import looped
from tests.e2e import processes
from voxroute.asr.v1 import asr_pb2_grpc

MEBIBYTE = 2**20


class Peak:
    """The highest resident memory that a process had, sampled every 50 ms."""

    def __init__(self, read: Callable[[], int]) -> None:
        self.bytes = 0
        self._read = read
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._done.wait(0.05):
            try:
                self.bytes = max(self.bytes, self._read())
            except psutil.NoSuchProcess:
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


@pytest.mark.slow  # minutes of work; the parts have quick tests of their own memory
@pytest.mark.timeout(1200)
def test_half_an_hour_needs_little_more_memory_than_a_minute(clip: Path, tmp_path: Path) -> None:
    """At most 300 MB more in the service and 150 MB more in the command."""
    minutes = 30
    long_recording = looped(tmp_path / f"{minutes}-minutes.mka", minutes * 60)
    services: list[Peak] = []
    commands: list[Peak] = []
    with processes.asr_service() as running:
        for media in (clip, long_recording):
            with Peak(running.resident_bytes) as service:
                process = subprocess.Popen(
                    [
                        str(Path(sys.executable).with_name("voxroute")),
                        "transcribe",
                        str(media),
                        "-s",
                        "hi",
                        "-o",
                        str(tmp_path),
                        "--asr-endpoint",
                        running.target,
                        "--quiet",
                    ]
                )
                watched = psutil.Process(process.pid)
                with Peak(lambda watched=watched: int(watched.memory_info().rss)) as command:
                    assert process.wait(1000) == 0
            services.append(service)
            commands.append(command)
    cues = len(pysubs2.load(str(clip.with_suffix(".hi.srt"))))
    found = len(pysubs2.load(str(tmp_path / f"{long_recording.stem}.hi.srt")))
    assert found > cues * minutes * 0.8
    assert services[1].bytes - services[0].bytes < 300 * MEBIBYTE
    assert commands[1].bytes - commands[0].bytes < 150 * MEBIBYTE


def test_the_first_segment_comes_before_the_last_audio_goes(
    asr: processes.Service, tmp_path: Path
) -> None:
    """The first windows are answered while later audio is still to be sent."""
    pieces = list(processes.chunks(looped(tmp_path / "long.mka", 10 * 60).read_bytes()))
    answered = threading.Event()

    def audio() -> Iterator[bytes]:
        for number, piece in enumerate(pieces):
            if number == len(pieces) // 2:
                answered.wait(200)
            yield piece

    with asr.channel() as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        call = stub.Transcribe(
            processes.requests(processes.container_config(), audio()), timeout=180
        )
        next(answer for answer in call if answer.HasField("segment"))
        answered.set()
        call.cancel()
