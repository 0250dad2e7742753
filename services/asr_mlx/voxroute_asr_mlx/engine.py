# pyright: basic
"""mlx-whisper as an AsrEngine: names, formats and devices. The models are in `whisper.py`."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from voxroute_asr_mlx import ENGINE, hardware
from voxroute_asr_mlx.models import FILES, MLX_WEIGHTS, format_of
from voxroute_asr_mlx.settings import MlxSettings
from voxroute_serving.asr.engine import AsrModel, Feature
from voxroute_serving.asr.whisper.engine import WhisperEngine
from voxroute_serving.asr.whisper.family import bcp47
from voxroute_serving.device.failures import load_errors
from voxroute_serving.domain import Activity, DeviceInfo, ModelRef
from voxroute_serving.models import hub

MAX_BATCH = {"cpu": 8, "cuda": 16, "mps": 8}  # windows


class MlxWhisperEngine(WhisperEngine[MlxSettings]):
    """An AsrEngine; see voxroute_serving.asr.engine for what its methods promise.

    Raises ModelUnavailableError where the settings ask for a device or a numeric type that this
    machine does not have.
    """

    name = "mlx-whisper"
    distribution = "mlx-whisper"
    manifest = ENGINE
    weight_files = (*MLX_WEIGHTS, "model.safetensors")
    features = frozenset(Feature) - {Feature.BEAM_SEARCH}

    def __init__(self, settings: MlxSettings) -> None:
        device = hardware.device_kind(settings.device)
        super().__init__(settings, device, hardware.compute_type(settings.compute_type, device))

    def compute_types(self) -> Sequence[str]:
        """The configured numeric type, then those that take less memory."""
        return hardware.smaller_types(self._compute_type)

    def _device_info(self) -> DeviceInfo:
        return hardware.device_info(self._device, self._compute_type)

    def _download(self, hub_id: str, activity: Activity) -> Path:
        return hub.local_directory(
            hub_id,
            offline=self._settings.offline,
            token=self._settings.hub_token,
            allow_patterns=FILES,
            activity=activity,
        )

    def _converted(self, model: str, source: Path, activity: Activity) -> Path:
        return mlx_directory(model, source, self._settings.model_cache_dir, activity)

    def _loaded(self, ref: ModelRef, directory: Path, source: Path, compute_type: str) -> AsrModel:
        # importing mlx_whisper (scipy, numba, tiktoken) takes seconds: on this thread, while the
        # server answers
        from voxroute_asr_mlx.whisper import MlxWhisperModel  # noqa: PLC0415

        with load_errors(f"the model {ref.id!r}"):
            return MlxWhisperModel(
                ref,
                directory,
                source,
                device=self._device,
                compute_type=compute_type,
                cpu_threads=self._settings.cpu_threads,
                max_batch=self._settings.max_batch or MAX_BATCH[self._device],
            )

    def _alignable(self) -> tuple[str, ...]:
        return self._languages

    @cached_property
    def _languages(self) -> tuple[str, ...]:
        """Every language of Whisper: the attention gives words their times in all of them."""
        from mlx_whisper.tokenizer import LANGUAGES  # noqa: PLC0415 - seconds, as above

        return tuple(bcp47(code) for code in LANGUAGES)


def mlx_directory(_name: str, source: Path, cache_dir: Path, activity: Activity) -> Path:
    """The directory of a model in mlx-whisper's format: its own, or the cached conversion's.

    Raises ModelUnavailableError.
    """
    if format_of(source) == "mlx":
        return source
    activity("converting to MLX")
    from voxroute_asr_mlx.convert import convert  # noqa: PLC0415 - imports mlx_whisper

    return hub.converted(source, "mlx", lambda target: convert(source, target), cache_dir=cache_dir)
