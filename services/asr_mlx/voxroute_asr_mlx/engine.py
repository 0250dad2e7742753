# pyright: basic
"""mlx-whisper as an AsrEngine: names, formats and devices. The models are in `whisper.py`."""

import importlib.metadata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from voxroute_asr_mlx import hardware
from voxroute_asr_mlx.models import FILES, cached_revision, format_of
from voxroute_asr_mlx.settings import MlxSettings
from voxroute_serving.asr.engine import AsrModel, EngineDescription, Feature
from voxroute_serving.asr.whisper_family import MLX_HUB_IDS as HUB_IDS
from voxroute_serving.asr.whisper_family import bcp47, named_directories, resolve_model
from voxroute_serving.device import weights
from voxroute_serving.device.failures import load_errors
from voxroute_serving.domain import Activity, ModelRef
from voxroute_serving.errors import ModelNotFoundError
from voxroute_serving.models import hub

NAME = "mlx-whisper"
DEFAULT_MODEL = {"cpu": "small", "cuda": "large-v3", "mps": "large-v3-turbo"}
MAX_BATCH = {"cpu": 8, "cuda": 16, "mps": 8}  # windows
FEATURES = frozenset(Feature) - {Feature.BEAM_SEARCH}


class MlxWhisperEngine:
    """An AsrEngine; see voxroute_serving.asr.engine for what its methods promise.

    Raises ModelUnavailableError where the settings ask for a device or a numeric type that this
    machine does not have.
    """

    def __init__(self, settings: MlxSettings) -> None:
        self._settings = settings
        self._device = hardware.device_kind(settings.device)
        self._compute_type = hardware.compute_type(settings.compute_type, self._device)
        self._directories = named_directories([settings.model, *settings.model_dirs], HUB_IDS)
        self._revisions: dict[str, str] = {}
        self._fetched: dict[str, Path] = {}

    def describe(self) -> EngineDescription:
        """What this engine is and can do."""
        return EngineDescription(
            name=NAME,
            version=importlib.metadata.version("mlx-whisper"),
            device=hardware.device_info(self._device, self._compute_type),
            features=FEATURES,
            alignable_languages=self._languages,
            available_models=self._available(),
        )

    def resolve(self, model: str) -> str:
        """The canonical id of a model name. Raises ModelNotFoundError."""
        return resolve_model(
            model,
            configured=self._settings.model,
            default=DEFAULT_MODEL[self._device],
            directories=self._directories,
            hub_ids=HUB_IDS,
        )

    def compute_types(self) -> Sequence[str]:
        """The configured numeric type, then those that take less memory."""
        return hardware.smaller_types(self._compute_type)

    def fetch(self, model: str, activity: Activity) -> int:
        """Sees that the model's files are here; the bytes that it will take."""
        source = self._fetched[model] = self._source(model, activity)
        return weights.expected_bytes(source, self._compute_type)

    def load(self, model: str, activity: Activity, compute_type: str = "") -> AsrModel:
        """The model of a canonical id, converted where needed, in memory and ready."""
        compute_type = compute_type or self._compute_type
        source = self._fetched.get(model) or self._source(model, activity)
        directory = mlx_directory(source, self._settings.model_cache_dir, activity)
        activity(f"loading on {self._device} as {compute_type}")
        ref = ModelRef(NAME, model, self._revision(model, source))
        # importing mlx_whisper (scipy, numba, tiktoken) takes seconds: on this thread, while the
        # server answers
        from voxroute_asr_mlx.whisper import MlxWhisperModel  # noqa: PLC0415

        with load_errors(f"the model {model!r}"):
            return MlxWhisperModel(
                ref,
                directory,
                source,
                device=self._device,
                compute_type=compute_type,
                cpu_threads=self._settings.cpu_threads,
                max_batch=self._settings.max_batch or MAX_BATCH[self._device],
            )

    def _source(self, model: str, activity: Activity) -> Path:
        if model in self._directories:
            return self._directories[model]
        activity("fetching the model")
        return hub.local_directory(
            HUB_IDS.get(model, model),
            offline=self._settings.offline,
            token=self._settings.hub_token,
            allow_patterns=FILES,
            activity=activity,
        )

    def _revision(self, model: str, source: Path) -> str:
        if model not in self._revisions:
            self._revisions[model] = hub.revision_of(source)
        return self._revisions[model]

    def _available(self) -> tuple[ModelRef, ...]:
        """Models that load without a download, the default first."""
        refs: dict[str, ModelRef] = {}
        for name, directory in self._directories.items():
            refs[name] = ModelRef(NAME, name, self._revision(name, directory))
        hub_default = [self._default] if self._default not in ("", *self._directories) else []
        for name in dict.fromkeys([*hub_default, *HUB_IDS]):
            revision = cached_revision(HUB_IDS.get(name, name))
            if revision is not None:
                refs[name] = ModelRef(NAME, name, revision)
        return tuple(sorted(refs.values(), key=lambda ref: ref.id != self._default))

    @cached_property
    def _default(self) -> str:
        try:
            return self.resolve("")
        except ModelNotFoundError:
            return ""

    @cached_property
    def _languages(self) -> tuple[str, ...]:
        """Every language of Whisper: the attention gives words their times in all of them."""
        from mlx_whisper.tokenizer import LANGUAGES  # noqa: PLC0415 - seconds, as above

        return tuple(bcp47(code) for code in LANGUAGES)


def mlx_directory(source: Path, cache_dir: Path, activity: Activity) -> Path:
    """The directory of a model in mlx-whisper's format: its own, or the cached conversion's.

    Raises ModelUnavailableError.
    """
    if format_of(source) == "mlx":
        return source
    activity("converting to MLX")
    return hub.converted(
        source, "mlx", lambda target: _convert(source, target), cache_dir=cache_dir
    )


def _convert(source: Path, target: Path) -> None:
    """Fills `target` from a Hugging Face checkpoint. Raises ModelUnavailableError."""
    from voxroute_asr_mlx.convert import convert  # noqa: PLC0415 - imports mlx_whisper

    convert(source, target)
