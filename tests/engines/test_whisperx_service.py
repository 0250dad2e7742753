"""The WhisperX service as a process: `python -m voxroute_asr_whisperx` on a unix socket."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2

STARTUP_S = 180.0  # a busy machine; normally a few seconds


def start(directory: Path, *flags: str) -> "subprocess.Popen[bytes]":
    """The service on directory/s, its caches and its log beside it."""
    command = [sys.executable, "-m", "voxroute_asr_whisperx", "--device", "cpu", "--offline"]
    command += ["--listen", f"unix:{directory}/s", "--metrics-listen", ""]
    command += ["--model-cache-dir", str(directory / "cache"), *flags]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "default"}
    with (directory / "log").open("wb") as log, (directory / "out").open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=log, env=environment)


def wait_until_serving(
    process: "subprocess.Popen[bytes]", channel: grpc.Channel, log: Path
) -> None:
    """Returns once health is SERVING."""
    until = time.monotonic() + STARTUP_S
    while time.monotonic() < until and process.poll() is None:
        try:
            request = health_pb2.HealthCheckRequest()
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
        except grpc.RpcError:
            pass
        else:
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return
        time.sleep(0.1)
    pytest.fail(f"not SERVING (exit {process.poll()}):\n{log.read_text()}")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="wx") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def channel(
    directory: Path, random_checkpoint: Path, bundled_aligner: Path
) -> Iterator[grpc.Channel]:
    """A channel to the service with a random checkpoint and the aligner; SIGTERM at the end."""
    flags = ["--model", str(random_checkpoint), "--align-models", f"hi={bundled_aligner}"]
    process = start(directory, *flags)
    try:
        with grpc.insecure_channel(f"unix:{directory}/s") as channel:
            wait_until_serving(process, channel, directory / "log")
            yield channel
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (directory / "log").read_text()
    finally:
        process.kill()


def requests(
    config: asr_pb2.TranscribeConfig, samples: npt.NDArray[np.float32]
) -> Iterator[asr_pb2.TranscribeRequest]:
    """The messages of one transcription."""
    config.audio.pcm.sample_rate_hz = 16_000
    yield asr_pb2.TranscribeRequest(config=config)
    pcm = (samples * 32767).astype("<i2").tobytes()
    for begin in range(0, len(pcm), 65536):
        yield asr_pb2.TranscribeRequest(audio=pcm[begin : begin + 65536])
    yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())


def test_capabilities_name_the_engine_the_model_and_its_languages(channel: grpc.Channel) -> None:
    """What an orchestrator routes by comes from the engine that runs."""
    answer = asr_pb2_grpc.AsrServiceStub(channel).GetCapabilities(asr_pb2.GetCapabilitiesRequest())
    assert (answer.engine, answer.engine_version) == ("whisperx", "3.8.6")
    assert [(m.model.id, m.loaded) for m in answer.models] == [("random-whisper", True)]
    assert sorted(answer.languages) == ["en", "hi", "jv"]
    assert list(answer.alignable_languages) == ["hi"]
    assert asr_pb2.FEATURE_ALIGNMENT in answer.features
    assert answer.device.compute_type == "int8"


def test_a_recording_comes_back_as_segments_with_words(
    channel: grpc.Channel, noise: list[npt.NDArray[np.float32]]
) -> None:
    """Through a real socket: accepted, segments in order with words and figures, done."""
    config = asr_pb2.TranscribeConfig(language="hi", word_timestamps=True, strict_options=True)
    config.vad.disabled = True
    config.decoding.temperatures.append(0.0)
    stub = asr_pb2_grpc.AsrServiceStub(channel)
    replies = list(stub.Transcribe(requests(config, noise[2]), timeout=120))
    kinds = [reply.WhichOneof("event") for reply in replies]
    assert (kinds[0], kinds[-1]) == ("accepted", "done")
    assert list(replies[0].accepted.options.ignored) == []
    assert replies[0].accepted.options.config.decoding.beam_size == 5
    segments = [reply.segment for reply in replies if reply.WhichOneof("event") == "segment"]
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    assert any(segment.words for segment in segments)
    for segment in segments:
        assert [word.text for word in segment.words] in ([], segment.text.split())
        assert segment.HasField("avg_log_prob")


def test_stdout_holds_the_one_line_that_programs_read(
    channel: grpc.Channel, directory: Path
) -> None:
    """The libraries that print while they load do not get between a program and that line."""
    assert channel is not None  # the service runs
    (line,) = (directory / "out").read_text().splitlines()
    assert json.loads(line)["event"] == "listening"


def test_a_service_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    """An operator reads one sentence and the exit code is 1."""
    process = start(tmp_path, "--model", str(tmp_path / "nothing"))
    assert process.wait(60) == 1
    assert "of --model does not exist" in (tmp_path / "log").read_text()
