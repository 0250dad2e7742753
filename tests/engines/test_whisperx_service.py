"""The WhisperX service as a process: `python -m voxroute_asr_whisperx` on a unix socket."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from tests.e2e import processes
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc

MODULE = "voxroute_asr_whisperx"
ALONE = ("--device", "cpu", "--offline")  # no GPU, no hub


@pytest.fixture(scope="module")
def service(
    random_checkpoint: Path, bundled_aligner: Path, cache: Path
) -> Iterator[processes.Service]:
    """The service with a random checkpoint and the bundled aligner; SIGTERM at the end."""
    flags = [*ALONE, "--model-cache-dir", str(cache)]
    flags += ["--model", str(random_checkpoint), "--align-models", f"hi={bundled_aligner}"]
    with processes.service(MODULE, *flags, HF_HUB_OFFLINE="1", PYTHONWARNINGS="default") as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def channel(service: processes.Service) -> Iterator[grpc.Channel]:
    """A channel to the service."""
    with service.channel() as channel:
        yield channel


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
    replies = list(stub.Transcribe(processes.of_samples(config, noise[1]), timeout=120))
    kinds = [reply.WhichOneof("event") for reply in replies]
    assert (kinds[0], kinds[-1]) == ("accepted", "done")
    assert list(replies[0].accepted.options.ignored) == []
    assert replies[0].accepted.options.config.decoding.beam_size == 5
    segments = [reply.segment for reply in replies if reply.WhichOneof("event") == "segment"]
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    # random weights may write what no aligner reads: which text it is, the processor decides
    told = {reply.warning.code for reply in replies if reply.WhichOneof("event") == "warning"}
    assert any(segment.words for segment in segments) or "ALIGNMENT_FAILED" in told
    for segment in segments:
        assert [word.text for word in segment.words] in ([], segment.text.split())
        assert segment.HasField("avg_log_prob")


def test_stdout_holds_the_one_line_that_programs_read(service: processes.Service) -> None:
    """The libraries that print while they load do not get between a program and that line."""
    (line,) = service.output.read_text().splitlines()
    assert json.loads(line)["event"] == "listening"


def test_a_service_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    """An operator reads one sentence and the exit code is 1."""
    missing = str(tmp_path / "nothing")
    with processes.service(MODULE, *ALONE, "--model", missing, wait=False) as running:
        assert running.process.wait(60) == 1
        assert "of --model does not exist" in running.log.read_text()
