"""The MLX service as a process: `python -m voxroute_asr_mlx` on a unix socket."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from tests.e2e import processes
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc

MODULE = "voxroute_asr_mlx"
ALONE = ("--device", "cpu", "--offline")  # no GPU, no hub


@pytest.fixture(scope="module")
def channel(
    random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[grpc.Channel]:
    """A channel to the service with the random checkpoint, converted by it; SIGTERM at the end."""
    flags = [*ALONE, "--model", str(random_checkpoint)]
    flags += ["--model-cache-dir", str(tmp_path_factory.mktemp("cache"))]
    with processes.service(MODULE, *flags, HF_HUB_OFFLINE="1") as running:
        with running.channel() as channel:
            yield channel
        assert running.stop() == 0, running.log.read_text()


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
    replies = list(stub.Transcribe(processes.of_samples(config, noise[0]), timeout=200))
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
        list(stub.Transcribe(processes.of_samples(config, noise[3]), timeout=200))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "beam_size" in str(caught.value.details())


def test_a_service_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    """An operator reads one sentence and the exit code is 1."""
    missing = str(tmp_path / "nothing")
    with processes.service(MODULE, *ALONE, "--model", missing, wait=False) as running:
        assert running.process.wait(60) == 1
        assert "of --model does not exist" in running.log.read_text()
