# pyright: basic
"""WhisperX as an AsrEngine: names, formats and devices. The ML libraries load with a model."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from voxroute_asr_whisperx import ENGINE
from voxroute_asr_whisperx.align import Aligners
from voxroute_asr_whisperx.diarize import PyannoteDiarizer
from voxroute_asr_whisperx.models import (
    CTRANSLATE2_FILES,
    HUGGING_FACE_FILES,
    OWN_FILES,
    WEIGHTS,
    fetched,
    format_of,
    traits_of,
)
from voxroute_asr_whisperx.runtimes.runtime import Runtime
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.asr.engine import AsrModel, Feature
from voxroute_serving.asr.whisper.engine import WhisperEngine
from voxroute_serving.device import weights
from voxroute_serving.device.failures import is_out_of_memory, load_errors
from voxroute_serving.device.host import host_memory, processor_name, usable_processors
from voxroute_serving.device.nvidia import cuda_memory, cuda_name_and_memory
from voxroute_serving.domain import Activity, DeviceInfo, ModelRef
from voxroute_serving.errors import ModelUnavailableError, ServingError
from voxroute_serving.models import hub

_log = logging.getLogger(__name__)

# Weights in floating point are torch's on a GPU, which decodes with them at twice the rate of
# CTranslate2; those of 8 bits are CTranslate2's. See docs/adr/0043.
ON_TORCH = ("float16", "bfloat16", "float32")
# Batches of CTranslate2 at once on one device: launching kernels, not the GPU, is what bounds one
# of them, and the search of the words' times holds a worker without touching the GPU. On a CPU one
# uses all the processors.
WORKERS = {"cpu": 1, "cuda": 6}
# What a batch of MAX_BATCH takes beside the weights, in bytes for each byte of them in half
# precision: so much was measured with a model of medium's shape, whose windows had 224 tokens.
_BATCH_BYTES = 4
MAX_BATCH = {"cpu": 4, "cuda": 32}  # windows; with 64 a GPU gains 5 %, with 16 it loses a third
FASTEST = {"cpu": ("int8", "float32"), "cuda": ("float16", "int8_float32", "float32")}
# What takes less memory than a type. "int8" is meant for devices without half precision: on others
# it is the same as one of the types that name both parts.
SMALLER = {
    "float32": ("float16", "int8_float16", "int8"),
    "bfloat16": ("int8_bfloat16", "int8_float16", "int8"),
    "float16": ("int8_float16", "int8"),
    "int16": ("int8",),
    "int8_float32": ("int8_float16",),
}


class WhisperXEngine(WhisperEngine[WhisperXSettings]):
    """An AsrEngine; see voxroute_serving.asr.engine for what its methods promise.

    Raises ModelUnavailableError where the settings ask for a device or a numeric type that this
    machine does not have.
    """

    name = "whisperx"
    distribution = "whisperx"
    manifest = ENGINE
    weight_files = WEIGHTS
    features = frozenset(Feature) - {Feature.WORD_TIMESTAMPS, Feature.ALIGNMENT}

    def __init__(self, settings: WhisperXSettings) -> None:
        device, self._indices = _devices(settings.device)
        super().__init__(settings, device, _compute_type(settings.compute_type, device))
        if not settings.log_text:  # it quotes the segments that it cannot align, as warnings
            logging.getLogger("whisperx.alignment").setLevel(logging.ERROR)
        self._threads = settings.cpu_threads or usable_processors()
        self._aligners = Aligners(
            device=self._device,
            configured=settings.align_model_of,
            downloads=settings.align_downloads,
            offline=settings.offline,
            token=settings.hub_token,
            cache_dir=settings.model_cache_dir,
        )

    def compute_types(self) -> Sequence[str]:
        """The configured numeric type, then those of the device that take less memory."""
        import ctranslate2  # noqa: PLC0415 - as below

        supported = ctranslate2.get_supported_compute_types(self._device)
        return smaller_types(self._compute_type, supported)

    def diarizer(self) -> PyannoteDiarizer | None:
        """What tells speakers apart on the same device; None where the settings name no model."""
        if not self._settings.diarization_model:
            return None
        return PyannoteDiarizer(
            self._settings.diarization_model,
            device=replace(self._device_info(), compute_type="float32"),
            offline=self._settings.offline,
            token=self._settings.hub_token,
        )

    def _alignable(self) -> tuple[str, ...]:
        return self._aligners.languages()

    def _download(self, hub_id: str, activity: Activity) -> Path:
        return fetched(
            hub_id,
            [*CTRANSLATE2_FILES, *HUGGING_FACE_FILES, *OWN_FILES],
            offline=self._settings.offline,
            token=self._settings.hub_token,
            activity=activity,
        )

    def _converted(self, model: str, source: Path, activity: Activity) -> Path:
        return ctranslate2_directory(model, source, self._settings.model_cache_dir, activity)

    def _loaded(self, ref: ModelRef, directory: Path, source: Path, compute_type: str) -> AsrModel:
        traits = traits_of(directory, source, ref.id)
        # importing faster-whisper takes a second: on this thread, while the server answers
        from voxroute_asr_whisperx.whisper import WhisperXModel  # noqa: PLC0415

        free_before = cuda_memory()[1] if self._device == "cuda" else None
        expected = weights.expected_bytes(source, compute_type)
        workers = _workers(self._device, source, expected, free_before)
        with load_errors(f"the model {ref.id!r}"):
            runtimes = [
                self._runtime(directory, index, compute_type, workers) for index in self._indices
            ]
            loaded = WhisperXModel(
                ref, directory, traits, runtimes, device=self._device, aligners=self._aligners
            )
        known = sum(one.weight_bytes for one in runtimes)
        loaded.memory_bytes = known or weights.taken_bytes(expected, free_before)
        return loaded

    def _runtime(self, directory: Path, index: int, compute_type: str, workers: int) -> Runtime:
        """The model on one device. Importing what runs it takes seconds."""
        if self._device == "cuda" and compute_type in ON_TORCH:
            from voxroute_asr_whisperx.runtimes.on_torch import TorchRuntime  # noqa: PLC0415

            device, max_batch = f"cuda:{index}", self._settings.max_batch
            try:
                return TorchRuntime(directory, device, compute_type, max_batch=max_batch)
            except Exception as error:  # files of another version, a GPU that torch does not know
                if is_out_of_memory(error):
                    raise
                _log.warning(
                    "torch cannot run %s (%s): CTranslate2 does, at half the speed",
                    directory.name,
                    error,
                )
        from voxroute_asr_whisperx.runtimes.on_ctranslate2 import CTranslate2Runtime  # noqa: PLC0415

        return CTranslate2Runtime(
            directory,
            device=self._device,
            index=index,
            compute_type=compute_type,
            cpu_threads=self._threads,
            max_batch=self._settings.max_batch or MAX_BATCH[self._device],
            workers=workers,
        )

    def _device_info(self) -> DeviceInfo:
        if self._device == "cuda":
            name, total = self._cuda
            n_gpus = len(self._indices)
            if n_gpus > 1:
                name = f"{n_gpus} x {name}"
            return DeviceInfo("cuda", name, self._compute_type, total and n_gpus * total)
        total, free = host_memory()
        return DeviceInfo("cpu", self._processor, self._compute_type, total, free)

    @cached_property
    def _processor(self) -> str:
        return processor_name()

    @cached_property
    def _cuda(self) -> tuple[str, int | None]:
        return cuda_name_and_memory()


def _devices(wanted: str) -> tuple[str, tuple[int, ...]]:
    """The device by CTranslate2's name, and which of that kind; it has no Metal.

    Raises ModelUnavailableError.
    """
    import ctranslate2  # noqa: PLC0415 - 0.1 s, and not for those who only read the constants

    n_cuda = ctranslate2.get_cuda_device_count()
    kind, _, which = wanted.partition(":")
    if kind == "mps":
        raise ModelUnavailableError(
            "WhisperX does not run on Metal; use the MLX service on Apple silicon, or --device cpu"
        )
    if kind == "cpu" or (kind == "auto" and not n_cuda):
        return "cpu", (0,)
    if not n_cuda:
        raise ModelUnavailableError(
            "CTranslate2 finds no CUDA device; check the NVIDIA driver, or use --device cpu"
        )
    if which == "all":
        return "cuda", tuple(range(n_cuda))
    indices = tuple(dict.fromkeys(int(one) for one in which.split(",") if one)) or (0,)
    if max(indices) >= n_cuda:
        raise ModelUnavailableError(
            f"there is no CUDA device {max(indices)}: this machine has {n_cuda}, counted from 0"
        )
    return "cuda", indices


def _compute_type(wanted: str, device: str) -> str:
    """The numeric type: the one wanted, or the fastest that the device has."""
    import ctranslate2  # noqa: PLC0415 - as above

    supported = ctranslate2.get_supported_compute_types(device)
    if wanted in ("", "auto"):
        return next((one for one in FASTEST[device] if one in supported), "default")
    if wanted not in supported:
        raise ModelUnavailableError(
            f"{wanted!r} is no compute type of this {device}; it has {', '.join(sorted(supported))}"
        )
    return wanted


def smaller_types(compute_type: str, supported: Collection[str]) -> tuple[str, ...]:
    """A numeric type and those that take less memory, of what a device supports."""
    smaller = [one for one in SMALLER.get(compute_type, ()) if one in supported]
    if any(one.startswith("int8_") for one in smaller):
        smaller = [one for one in smaller if one != "int8"]
    return (compute_type, *smaller)


def ctranslate2_directory(name: str, source: Path, cache_dir: Path, activity: Activity) -> Path:
    """The directory of a model in CTranslate2's format: its own, or the cached conversion's.

    Raises ModelUnavailableError.
    """
    if format_of(source) == "ctranslate2":
        return source
    activity("converting to CTranslate2")
    return hub.converted(
        source,
        "ctranslate2",
        lambda target: _convert(source, target, name),
        cache_dir=cache_dir,
    )


def _convert(source: Path, target: Path, name: str) -> None:
    """Fills `target` from a Hugging Face checkpoint. Raises ModelUnavailableError."""
    from voxroute_asr_whisperx.convert import convert  # noqa: PLC0415 - imports transformers

    try:
        convert(source, target)
    except ServingError:
        raise
    except Exception as error:
        raise ModelUnavailableError(
            f"the model {name!r} could not be converted to CTranslate2; it must be a checkpoint of"
            " WhisperForConditionalGeneration with its tokenizer"
        ) from error


def _workers(device: str, source: Path, expected: int, free: int | None) -> int:
    """As many batches at once as the device has memory for."""
    each = _BATCH_BYTES * weights.expected_bytes(source, "float16")
    if free is None or not each:
        return WORKERS[device]
    return max(1, min(WORKERS[device], (free - expected) // each))
