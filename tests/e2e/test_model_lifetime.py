"""A real model that is freed when idle, in a process of its own, and loaded again by a call."""

import time
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from tests.e2e import processes
from tests.serving.recordings import s16le, speech
from voxroute.models.v1 import models_pb2, models_pb2_grpc

STATES = models_pb2.ModelState


def only_model(running: processes.Service) -> "models_pb2.Model":
    """The one model of the service as it is now."""
    with running.channel() as channel:
        stub: Any = models_pb2_grpc.ModelServiceStub(channel)
        (model,) = stub.ListModels(models_pb2.ListModelsRequest(), timeout=20).models
        return model


def until(running: processes.Service, state: int) -> None:
    """Returns once the model is in that state."""
    end = time.monotonic() + 60
    while only_model(running).state != state:
        assert time.monotonic() < end, f"never {STATES.Name(state)}"
        time.sleep(0.1)


@pytest.mark.slow
def test_the_bundled_model_is_freed_when_idle_and_transcribes_after_that(tmp_path: Path) -> None:
    """It is listed with its memory, then without; a call loads it, and health never changes."""
    flags = ("--model-idle-ttl-s", "3", "--model-cache-dir", str(tmp_path))
    with processes.asr_service(*flags) as running:
        until(running, STATES.MODEL_STATE_LOADED)
        weights = (processes.ASR_MODEL / "model.safetensors").stat().st_size
        # int8 takes a quarter of float32 and half of float16
        assert weights / 5 < only_model(running).memory_bytes < weights
        until(running, STATES.MODEL_STATE_AVAILABLE)
        assert only_model(running).memory_bytes == 0
        assert running.health() == health_pb2.HealthCheckResponse.SERVING
        replies = processes.transcribe(running, processes.pcm_config(), s16le(speech(3.0)))
        assert replies[-1].HasField("done")
        assert running.health() == health_pb2.HealthCheckResponse.SERVING
        until(running, STATES.MODEL_STATE_AVAILABLE)
