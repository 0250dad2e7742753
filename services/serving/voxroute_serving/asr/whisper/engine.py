"""What every engine of Whisper models does alike: names, directories, revisions, descriptions."""

import abc
import importlib.metadata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from voxroute_serving.asr.engine import AsrModel, EngineDescription, Feature
from voxroute_serving.asr.whisper.family import named_directories, resolve_model
from voxroute_serving.asr.whisper.files import cached_revision
from voxroute_serving.asr.whisper.settings import WhisperSettings
from voxroute_serving.device import weights
from voxroute_serving.domain import Activity, DeviceInfo, ModelRef
from voxroute_serving.errors import ModelNotFoundError
from voxroute_serving.manifest import Engine
from voxroute_serving.models import hub

Settings = TypeVar("Settings", bound=WhisperSettings)


class WhisperEngine(abc.ABC, Generic[Settings]):
    """An AsrEngine; see voxroute_serving.asr.engine for what its methods promise.

    A subclass says in class variables what it is; it finds the device, converts and loads.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]
    """Of its library, whose version is the engine's."""
    manifest: ClassVar[Engine]
    weight_files: ClassVar[Sequence[str]]
    """The files one of which is here where a hub's model has been downloaded."""
    features: ClassVar[frozenset[Feature]]
    """Those that do not depend on the languages that can be aligned."""

    def __init__(self, settings: Settings, device: str, compute_type: str) -> None:
        self._settings = settings
        self._device = device
        self._compute_type = compute_type
        self._directories = named_directories(
            [settings.model, *settings.model_dirs], self.manifest.hub_ids
        )
        self._revisions: dict[str, str] = {}
        self._fetched: dict[str, Path] = {}

    def describe(self) -> EngineDescription:
        """What this engine is and can do."""
        alignable = self._alignable()
        aligned = {Feature.WORD_TIMESTAMPS, Feature.ALIGNMENT} if alignable else set[Feature]()
        return EngineDescription(
            name=self.name,
            version=importlib.metadata.version(self.distribution),
            device=self._device_info(),
            features=self.features | aligned,
            alignable_languages=alignable,
            available_models=self._available(),
        )

    def resolve(self, model: str) -> str:
        """The canonical id of a model name. Raises ModelNotFoundError."""
        return resolve_model(
            model,
            configured=self._settings.model,
            default=self.manifest.default_models[self._device][0],
            directories=self._directories,
            hub_ids=self.manifest.hub_ids,
        )

    @abc.abstractmethod
    def compute_types(self) -> Sequence[str]:
        """The configured numeric type, then those of the device that take less memory."""

    def fetch(self, model: str, activity: Activity) -> int:
        """Sees that the model's files are here; the bytes that it will take."""
        source = self._fetched[model] = self._source(model, activity)
        return weights.expected_bytes(source, self._compute_type)

    def load(self, model: str, activity: Activity, compute_type: str = "") -> AsrModel:
        """The model of a canonical id, converted where needed, in memory and ready."""
        compute_type = compute_type or self._compute_type
        source = self._fetched.get(model) or self._source(model, activity)
        directory = self._converted(model, source, activity)
        activity(f"loading on {self._device} as {compute_type}")
        ref = ModelRef(self.name, model, self._revision(model, source))
        return self._loaded(ref, directory, source, compute_type)

    @abc.abstractmethod
    def _alignable(self) -> tuple[str, ...]:
        """The languages whose words get times, BCP-47."""

    @abc.abstractmethod
    def _device_info(self) -> DeviceInfo:
        """The device's name and memory."""

    @abc.abstractmethod
    def _download(self, hub_id: str, activity: Activity) -> Path:
        """The directory of a hub's model. Raises ModelNotFoundError, ModelUnavailableError."""

    @abc.abstractmethod
    def _converted(self, model: str, source: Path, activity: Activity) -> Path:
        """The directory of a model in the engine's own format. Raises ModelUnavailableError."""

    @abc.abstractmethod
    def _loaded(self, ref: ModelRef, directory: Path, source: Path, compute_type: str) -> AsrModel:
        """The model in memory; `source` is what `directory` was converted from, or the same.

        Raises OutOfMemoryError, ModelUnavailableError.
        """

    def _source(self, model: str, activity: Activity) -> Path:
        if model in self._directories:
            return self._directories[model]
        activity("fetching the model")
        return self._download(self.manifest.hub_ids.get(model, model), activity)

    def _revision(self, model: str, source: Path) -> str:
        if model not in self._revisions:
            self._revisions[model] = hub.revision_of(source)
        return self._revisions[model]

    def _available(self) -> tuple[ModelRef, ...]:
        """Models that load without a download, the default first."""
        refs: dict[str, ModelRef] = {}
        for name, directory in self._directories.items():
            refs[name] = ModelRef(self.name, name, self._revision(name, directory))
        hub_default = [self._default] if self._default not in ("", *self._directories) else []
        for name in dict.fromkeys([*hub_default, *self.manifest.hub_ids]):
            revision = cached_revision(self.manifest.hub_ids.get(name, name), self.weight_files)
            if revision is not None:
                refs[name] = ModelRef(self.name, name, revision)
        return tuple(sorted(refs.values(), key=lambda ref: ref.id != self._default))

    @cached_property
    def _default(self) -> str:
        try:
            return self.resolve("")
        except ModelNotFoundError:
            return ""
