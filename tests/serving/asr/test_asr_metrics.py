"""What a speech service has measured after calls over a real socket."""

import grpc
import pytest

from tests.serving.asr.test_asr import DIALOGUE, config, messages, segments, serving
from tests.serving.recordings import s16le
from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_serving.asr.engine import WindowSegment
from voxroute_serving.errors import EngineError
from voxroute_serving.metrics import Metrics
from voxroute_serving.testing.fake_engine import FakeEngine

SECONDS = len(DIALOGUE) / 16_000


def value(metrics: Metrics, name: str, /, **labels: str) -> float:
    """A sample; fails where there is none."""
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


async def test_a_transcription_is_measured_in_audio_speech_and_time_of_the_device() -> None:
    """What went in, what was speech, what it cost, and how fast that was."""
    async with serving(FakeEngine(delay_s=0.1)) as service:
        await service.transcribe(messages(s16le(DIALOGUE)))
        metrics = service.metrics
    audio = value(metrics, "voxroute_asr_audio_seconds_total", grpc_method="Transcribe")
    assert audio == pytest.approx(SECONDS)
    assert value(metrics, "voxroute_asr_audio_seconds_total", grpc_method="Align") == 0
    assert value(metrics, "voxroute_asr_speech_seconds_total") == pytest.approx(SECONDS)
    assert value(metrics, "voxroute_asr_windows_total") == 1
    inference = value(metrics, "voxroute_asr_inference_seconds_total")
    assert inference >= 0.1
    assert value(metrics, "voxroute_asr_queue_seconds_total") >= 0
    assert value(metrics, "voxroute_asr_real_time_factor_count") == 1
    factor = value(metrics, "voxroute_asr_real_time_factor_sum")
    assert factor == pytest.approx(inference / SECONDS, rel=0.01)


async def test_segments_are_counted_by_flag() -> None:
    """A segment with two flags counts for each, and once among all."""
    doubtful = WindowSegment(0.0, 1.0, "la la la", avg_log_prob=-5.0, compression_ratio=9.0)
    plain = WindowSegment(1.0, 2.0, "good", avg_log_prob=-0.1, compression_ratio=1.0)
    async with serving(FakeEngine(segments=lambda _: (doubtful, plain))) as service:
        replies = await service.transcribe(messages(s16le(DIALOGUE)))
        metrics = service.metrics
    assert [len(segment.flags) for segment in segments(replies)] == [2, 0]
    name = "voxroute_asr_flagged_segments_total"
    assert value(metrics, "voxroute_asr_segments_total") == 2
    assert value(metrics, name, flag="repetition") == 1
    assert value(metrics, name, flag="low_confidence") == 1
    assert value(metrics, name, flag="no_speech") == 0


async def test_audio_of_every_method_is_counted_under_its_name() -> None:
    """Detection and alignment hear audio too, and transcribe none of it."""
    pcm = asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000))
    known = asr_pb2.AlignSegment(id=1, text="tone")
    known.end.FromSeconds(2)
    audio, finish = s16le(DIALOGUE), common_pb2.Finish()
    async with serving() as service:
        await service.answers(
            "Align",
            [
                asr_pb2.AlignRequest(config=asr_pb2.AlignConfig(audio=pcm, language="hi")),
                asr_pb2.AlignRequest(segment=known),
                asr_pb2.AlignRequest(audio=audio),
                asr_pb2.AlignRequest(finish=finish),
            ],
        )
        call = service.stub.DetectLanguage()
        options = asr_pb2.DetectLanguageConfig(audio=pcm, vad=asr_pb2.VadOptions(disabled=True))
        await call.write(asr_pb2.DetectLanguageRequest(config=options))
        await call.write(asr_pb2.DetectLanguageRequest(audio=audio))
        await call.write(asr_pb2.DetectLanguageRequest(finish=finish))
        await call
        metrics = service.metrics
    for method, expected in (("Align", SECONDS), ("DetectLanguage", SECONDS), ("Transcribe", 0)):
        heard = value(metrics, "voxroute_asr_audio_seconds_total", grpc_method=method)
        assert heard == pytest.approx(expected), method
    assert value(metrics, "voxroute_asr_windows_total") == 0


async def test_loads_models_and_the_device_are_measured() -> None:
    """A load counts with its time; the pool and the device are asked when the page is."""
    async with serving(FakeEngine(load_delay_s=0.05)) as service:
        metrics = service.metrics
        assert value(metrics, "voxroute_model_loads_total", outcome="loaded") == 1
        assert value(metrics, "voxroute_model_load_seconds_sum") >= 0.05
        assert value(metrics, "voxroute_models", state="loaded") == 1
        assert value(metrics, "voxroute_models", state="loading") == 0
        await service.transcribe(messages(s16le(DIALOGUE), config(model="more-tones")))
        assert value(metrics, "voxroute_models", state="loaded") == 2
        assert value(metrics, "voxroute_device_memory_size_bytes") == 2**30
        assert value(metrics, "voxroute_device_memory_free_bytes") == 2**29
        device = {"kind": "cpu", "name": "imaginary processor", "compute_type": "float32"}
        assert value(metrics, "voxroute_device_info", **device) == 1


async def test_a_load_that_fails_is_counted_as_failed() -> None:
    """It is no load and has no time."""
    async with serving() as service:
        service.engine.load_failure = EngineError("the file is damaged")
        with pytest.raises(grpc.RpcError):
            await service.transcribe(messages(s16le(DIALOGUE), config(model="more-tones")))
        metrics = service.metrics
    assert value(metrics, "voxroute_model_loads_total", outcome="failed") == 1
    assert value(metrics, "voxroute_model_load_seconds_count") == 1


async def test_failures_are_counted_by_reason() -> None:
    """The reason is that of the status's ErrorInfo; what nobody foresaw is a DEFECT."""
    async with serving() as service:
        for failure in (EngineError("it broke"), ValueError("a defect")):
            service.engine.failure = failure
            with pytest.raises(grpc.RpcError):
                await service.transcribe(messages(s16le(DIALOGUE)))
        metrics = service.metrics
    assert value(metrics, "voxroute_errors_total", reason="ENGINE_FAILED") == 1
    assert value(metrics, "voxroute_errors_total", reason="DEFECT") == 1
    assert value(metrics, "voxroute_errors_total", reason="QUEUE_FULL") == 0
