"""Who speaks when: pyannote's own loading code and pipeline, on small models in its own formats."""

# pyright: basic

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import grpc
import huggingface_hub
import pytest

from tests.engines.conftest import settings_of
from tests.engines.pipelines import EVENING, SEGMENTATION, sound_of, write_config, write_pipeline
from tests.engines.pipelines import write_plda as write_plda_of
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_asr_whisperx.diarize import PyannoteDiarizer, PyannoteModel
from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_serving.asr.diarizing import in_order_of_speech
from voxroute_serving.audio.samples import Samples
from voxroute_serving.domain import DeviceInfo
from voxroute_serving.errors import (
    ModelNotFoundError,
    ModelUnavailableError,
    OutOfMemoryError,
    ServingError,
)
from voxroute_serving.models import hub
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.served import serving_engine

CPU = DeviceInfo("cpu", "a processor", "float32")
# who speaks when in the example (examples/evening.en.srt): a woman, a man, the woman, the man
LINES = [(0.5, 1.167), (1.967, 4.691), (5.491, 7.060), (7.860, 10.227)]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIPELINE_3_1 = "pyannote/speaker-diarization-3.1"


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline whose directory's name would mislead pyannote about its embedding."""
    if not SEGMENTATION.is_file():
        pytest.skip("models/turns-tiny/pytorch_model.bin is missing")
    return write_pipeline(tmp_path_factory.mktemp("models") / "wespeaker-nvidia-tiny")


@pytest.fixture(scope="session")
def evening() -> Samples:
    """Ten seconds of a woman and a man who speak in turn."""
    return sound_of(EVENING)


@pytest.fixture(scope="session")
def model(pipeline: Path) -> PyannoteModel:
    """The pipeline, loaded."""
    return load(diarizer(pipeline))


def diarizer(name: object, *, offline: bool = True, token: str | None = None) -> PyannoteDiarizer:
    """A diarizer on the CPU."""
    return PyannoteDiarizer(str(name), device=CPU, offline=offline, token=token)


def load(one: PyannoteDiarizer) -> PyannoteModel:
    """Its default model."""
    return one.load(one.resolve(""), lambda _: None)


def check_dialogue(spans: list[tuple[float, float, str]]) -> None:
    """Each line of the example has its speaker nearly throughout, and they speak in turn."""
    lines: list[str] = []
    for start_s, end_s in LINES:
        spoken: dict[str, float] = {}
        for begin, finish, speaker in spans:
            overlap_s = min(end_s, finish) - max(start_s, begin)
            spoken[speaker] = spoken.get(speaker, 0.0) + max(0.0, overlap_s)
        speaker = max(spoken, key=lambda name: spoken[name])
        assert spoken[speaker] >= 0.75 * (end_s - start_s)
        lines.append(speaker)
    assert lines == ["SPEAKER_00", "SPEAKER_01"] * 2


def test_two_voices_are_told_apart_and_found_in_time(
    model: PyannoteModel, evening: Samples
) -> None:
    """Through pyannote's segmentation, embeddings and clustering: who speaks, and when."""
    turns = in_order_of_speech(model.diarize(evening, 2, 2, lambda: False), len(evening) / 16_000)
    check_dialogue([(turn.start_s, turn.end_s, turn.speaker) for turn in turns])
    assert turns[0].start_s == pytest.approx(0.5, abs=0.25)
    for (_, end_s), (start_s, _) in pairwise(LINES):
        middle_s = (start_s + end_s) / 2
        assert not any(turn.start_s < middle_s < turn.end_s for turn in turns)


@pytest.mark.parametrize("n_samples", [0, 1, 1_000, 20_000])
def test_a_recording_of_any_length_has_an_answer(
    model: PyannoteModel, evening: Samples, n_samples: int
) -> None:
    """One sample, or less than a window: few turns or none, and no failure."""
    turns = model.diarize(evening[8_000 : 8_000 + n_samples], None, None, lambda: False)
    assert len(turns) <= 3


def test_silence_has_no_turns(model: PyannoteModel, evening: Samples) -> None:
    """Nobody speaks, so nobody is invented."""
    assert model.diarize(evening * 0, None, None, lambda: False) == []


def test_more_speakers_are_asked_for_than_there_are(model: PyannoteModel, evening: Samples) -> None:
    """A wrong number from a client is no failure of the service."""
    assert model.diarize(evening[:48_000], 20, 40, lambda: False)


def test_a_call_that_is_gone_stops_the_work(model: PyannoteModel, evening: Samples) -> None:
    """The device is free after the batch that runs."""
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return True

    assert model.diarize(evening, None, None, stop) == []
    assert len(asked) == 1


def test_a_pipeline_is_freed_after_the_recording_whose_caller_has_left(
    pipeline: Path, evening: Samples
) -> None:
    """The device has several threads: one may free the model while another is still in it."""
    model = load(diarizer(pipeline))
    left, inside = threading.Event(), threading.Event()

    def stop() -> bool:
        inside.set()
        return left.is_set()

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(model.diarize, evening[:80_000], None, None, stop)
        assert inside.wait(60)
        freeing = pool.submit(model.close)
        left.set()
        assert running.result(60) is not None
        freeing.result(60)


def test_loading_and_running_open_no_connection(
    pipeline: Path, evening: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pyannote 4.0 would report to its makers, and fetch a PLDA that is not used."""

    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setenv("PYANNOTE_METRICS_ENABLED", "true")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load(diarizer(pipeline)).diarize(evening[8_000:32_000], None, None, lambda: False)
    from pyannote.audio.telemetry.metrics import is_metrics_enabled  # noqa: PLC0415 - imported by now

    assert not is_metrics_enabled()


def test_a_full_device_gets_smaller_batches_and_then_gives_up(
    pipeline: Path, evening: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 8 windows at once down to one; only then is it an error."""
    model = load(diarizer(pipeline))
    sizes: list[int] = []
    real = type(model._pipeline).get_segmentations  # pyright: ignore[reportAttributeAccessIssue]

    def crowded(pipeline: object, *args: object, **fields: object) -> object:
        sizes.append(pipeline.segmentation_batch_size)  # pyright: ignore[reportAttributeAccessIssue]
        if sizes[-1] > limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(pipeline, *args, **fields)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(type(model._pipeline), "get_segmentations", crowded)
    limit = 2
    assert model.diarize(evening[8_000:32_000], None, None, lambda: False)
    limit = 0
    with pytest.raises(OutOfMemoryError, match="too small"):
        model.diarize(evening[8_000:32_000], None, None, lambda: False)
    assert sizes == [8, 4, 2, 2, 1]


def test_a_pipeline_of_the_newer_kind_brings_its_plda(
    pipeline: Path, evening: Samples, tmp_path: Path
) -> None:
    """speaker-diarization-community-1 clusters with VBx and a PLDA of its own."""
    directory = tmp_path / "community"
    shutil.copytree(pipeline, directory)
    write_plda_of(directory / "plda")
    write_config(directory, clustering="VBxClustering", plda="$model/plda")
    one = diarizer(directory)
    assert one.available() is not None
    assert load(one).diarize(evening[:80_000], None, None, lambda: False)


# --- what cannot be had --------------------------------------------------------------------------


def broken(change: Callable[[Path], object]) -> Callable[[Path, Path], Path]:
    """What makes a copy of a pipeline with something wrong in it."""

    def make(pipeline: Path, directory: Path) -> Path:
        shutil.copytree(pipeline, directory)
        change(directory)
        return directory

    return make


DAMAGE = {
    "no config": (broken(lambda d: (d / "config.yaml").unlink()), "config.yaml cannot be read"),
    "no yaml": (broken(lambda d: (d / "config.yaml").write_text("a: [")), "cannot be read"),
    "another pipeline": (
        broken(lambda d: (d / "config.yaml").write_text("pipeline: {name: some.Other}")),
        "some.Other",
    ),
    "no embedding": (broken(lambda d: write_config(d, embedding=None)), "names no embedding"),
    "no plda": (
        broken(lambda d: write_config(d, clustering="VBxClustering")), "names no plda",
    ),
    "no weights": (
        broken(lambda d: (d / "segmentation" / "pytorch_model.bin").unlink()),
        "no pytorch_model.bin in 'segmentation'",
    ),
    "a part that is no name": (broken(lambda d: write_config(d, embedding=7)), "named 7"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_pipeline_that_lacks_something_is_not_claimed_and_says_what(
    what: str, pipeline: Path, tmp_path: Path
) -> None:
    """A sentence for the operator; the feature is not there."""
    make, words = DAMAGE[what]
    one = diarizer(make(pipeline, tmp_path / "broken"))
    assert one.available() is None
    with pytest.raises(ModelNotFoundError, match="cannot be used") as caught:
        load(one)
    assert words in str(caught.value)


def test_damaged_weights_are_told(pipeline: Path, tmp_path: Path) -> None:
    """The file is there, so it is claimed; loading it says that it is damaged."""
    directory = tmp_path / "damaged"
    shutil.copytree(pipeline, directory)
    (directory / "embedding" / "pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(ModelUnavailableError, match="may be damaged"):
        load(diarizer(directory))


def test_a_name_that_is_neither_directory_nor_hub_id_is_not_found(tmp_path: Path) -> None:
    """No request goes out for it."""
    with pytest.raises(ModelNotFoundError, match="neither a directory"):
        load(diarizer(tmp_path / "nothing", offline=False))


def test_a_request_may_name_the_one_model_and_no_other(pipeline: Path) -> None:
    """By the directory's name; paths of this host are out of a client's reach."""
    one = diarizer(pipeline)
    assert one.resolve("") == one.resolve(pipeline.name) == pipeline.name
    with pytest.raises(ModelNotFoundError, match=pipeline.name):
        one.resolve("/etc")


# --- the hub -------------------------------------------------------------------------------------


def cache_model(cache: Path, name: str) -> Path:
    """The snapshot of a model in a hub cache, still empty."""
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    return snapshot


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_pipeline_of_several_hub_models_is_had_when_all_of_them_are(
    pipeline: Path, evening: Samples, hub_cache: Path
) -> None:
    """As speaker-diarization-3.1: the config in one repository, its two models in two others."""
    names = {
        "segmentation": "pyannote/segmentation-3.0",
        "embedding": "pyannote/wespeaker-voxceleb-resnet34-LM",
    }
    one = diarizer(PIPELINE_3_1)
    assert one.available() is None
    write_config(cache_model(hub_cache, PIPELINE_3_1), **names)
    shutil.copy(pipeline / "segmentation" / "pytorch_model.bin",
                cache_model(hub_cache, names["segmentation"]))  # fmt: skip
    assert one.available() is None
    with pytest.raises(ModelUnavailableError, match=r"wespeaker.*offline"):
        load(one)
    shutil.copy(pipeline / "embedding" / "pytorch_model.bin",
                cache_model(hub_cache, names["embedding"]))  # fmt: skip
    ref = one.available()
    assert ref is not None
    assert (ref.id, ref.revision) == (PIPELINE_3_1, COMMIT)
    assert load(one).diarize(evening[8_000:32_000], None, None, lambda: False)


def test_a_gated_model_says_which_licence_and_which_variable(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline is here, and one of its models is behind a licence of its own."""
    config = {"segmentation": "pyannote/segmentation-3.0", "embedding": "pyannote/embedding"}
    write_config(cache_model(hub_cache, PIPELINE_3_1), **config)
    real = huggingface_hub.snapshot_download

    def answer(name: str, **fields: object) -> str:
        if name == PIPELINE_3_1:
            return real(name, **{**fields, "local_files_only": True})  # pyright: ignore[reportArgumentType]
        import requests  # noqa: PLC0415 - the hub library's own

        response = requests.Response()
        response.status_code = 403
        raise huggingface_hub.errors.GatedRepoError("gated", response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    with pytest.raises(ModelUnavailableError, match=r"segmentation-3\.0 is gated.*HF_TOKEN"):
        diarizer(PIPELINE_3_1, offline=False).fetch()


# --- the service ---------------------------------------------------------------------------------


def test_the_setting_makes_the_diarizer(
    pipeline: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    """Empty for none; else a model of that name on the service's device."""
    fields = {"model": str(random_checkpoint)}
    assert WhisperXEngine(settings_of(tmp_path, **fields)).diarizer() is None
    settings = settings_of(tmp_path, **fields, diarization_model=str(pipeline))
    made = WhisperXEngine(settings).diarizer()
    assert made is not None
    assert made.resolve("") == pipeline.name
    assert (made.device().kind, made.device().compute_type) == ("cpu", "float32")
    ref = made.available()
    assert ref is not None
    assert ref.revision == hub.revision_of(pipeline)


async def test_a_service_diarizes_a_file(pipeline: Path) -> None:
    """Over a real socket, on the device thread: capabilities, speakers and times."""
    audio = asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat())
    config = asr_pb2.DiarizeConfig(audio=audio, min_speakers=2, max_speakers=2)
    requests = [
        asr_pb2.DiarizeRequest(config=config),
        asr_pb2.DiarizeRequest(audio=EVENING.read_bytes()),
        asr_pb2.DiarizeRequest(finish=common_pb2.Finish()),
    ]

    def call() -> tuple[list[asr_pb2.DiarizeResponse], list[int]]:
        with grpc.insecure_channel(served.address) as channel:
            stub = asr_pb2_grpc.AsrServiceStub(channel)
            about = stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest())
            return list(stub.Diarize(iter(requests), timeout=240)), list(about.features)

    async with serving_engine(FakeEngine(), diarizer(pipeline)) as served:
        replies, features = await asyncio.to_thread(call)
    assert asr_pb2.FEATURE_DIARIZATION in features
    assert replies[0].accepted.model.id == pipeline.name
    assert replies[-1].done.speakers == 2
    check_dialogue(
        [
            (
                r.turn.start.ToMilliseconds() / 1000,
                r.turn.end.ToMilliseconds() / 1000,
                r.turn.speaker,
            )
            for r in replies
            if r.HasField("turn")
        ]
    )


def test_every_failure_is_one_that_a_client_is_told(pipeline: Path, evening: Samples) -> None:
    """A defect of the library is an EngineError, whose cause is for the log alone."""
    model = load(diarizer(pipeline))
    model._pipeline = None  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ServingError, match="failed; the service's log has the reason"):
        model.diarize(evening, None, None, lambda: False)
