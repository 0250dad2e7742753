"""The MLX service as a process: `python -m voxroute_asr_mlx` on a unix socket."""

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
    command = [sys.executable, "-m", "voxroute_asr_mlx", "--device", "cpu", "--offline"]
    command += ["--listen", f"unix:{directory}/s", "--metrics-listen", ""]
    command += ["--model-cache-dir", str(directory / "cache"), *flags]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


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
def channel(random_checkpoint: Path) -> Iterator[grpc.Channel]:
    """A channel to the service with the random checkpoint, converted by it; SIGTERM at the end."""
    with tempfile.TemporaryDirectory(prefix="mx") as path:
        directory = Path(path)
        process = start(directory, "--model", str(random_checkpoint))
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
    yield asr_pb2.TranscribeRequest(audio=(samples * 32767).astype("<i2").tobytes())
    yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())


def config_of(**decoding: object) -> asr_pb2.TranscribeConfig:
    """A config under which a random model's text passes every check."""
    config = asr_pb2.TranscribeConfig(language="hi", word_timestamps=True)
    config.vad.disabled = True
    config.decoding.MergeFrom(
        asr_pb2.DecodingOptions(
            temperatures=[0.0],
            log_prob_threshold=-100,
            compression_ratio_threshold=100,
            no_speech_threshold=1,
            **decoding,  # type: ignore[arg-type] - the message checks it
        )
    )
    return config


def test_capabilities_name_the_engine_and_its_model(channel: grpc.Channel) -> None:
    """What an orchestrator routes by comes from the engine that runs."""
    answer = asr_pb2_grpc.AsrServiceStub(channel).GetCapabilities(asr_pb2.GetCapabilitiesRequest())
    assert (answer.engine, answer.engine_version) == ("mlx-whisper", "0.4.3")
    assert [(m.model.id, m.loaded) for m in answer.models] == [("random-whisper", True)]
    assert {"hi", "en", "jv"} <= set(answer.languages)
    assert asr_pb2.FEATURE_BEAM_SEARCH not in answer.features
    assert answer.device.compute_type == "float32"


def test_a_recording_comes_back_as_segments_with_words(
    channel: grpc.Channel, noise: list[npt.NDArray[np.float32]]
) -> None:
    """Through a real socket: accepted, segments in order with words and figures, done."""
    stub = asr_pb2_grpc.AsrServiceStub(channel)
    config = config_of(beam_size=5)
    replies = list(stub.Transcribe(requests(config, noise[0]), timeout=200))
    kinds = [reply.WhichOneof("event") for reply in replies]
    assert (kinds[0], kinds[-1]) == ("accepted", "done")
    options = replies[0].accepted.options
    assert [one.field for one in options.ignored] == ["decoding.beam_size"]
    assert options.config.decoding.beam_size == 1
    segments = [reply.segment for reply in replies if reply.WhichOneof("event") == "segment"]
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    assert any(segment.words for segment in segments)
    assert all(segment.HasField("avg_log_prob") for segment in segments)


def test_a_strict_call_refuses_what_cannot_be_honoured(
    channel: grpc.Channel, noise: list[npt.NDArray[np.float32]]
) -> None:
    """With strict_options beam search is an error that names the field."""
    config = config_of(beam_size=5)
    config.strict_options = True
    stub = asr_pb2_grpc.AsrServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Transcribe(requests(config, noise[3]), timeout=200))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "beam_size" in str(caught.value.details())


def test_a_service_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    """An operator reads one sentence and the exit code is 1."""
    process = start(tmp_path, "--model", str(tmp_path / "nothing"))
    assert process.wait(60) == 1
    assert "of --model does not exist" in (tmp_path / "log").read_text()
