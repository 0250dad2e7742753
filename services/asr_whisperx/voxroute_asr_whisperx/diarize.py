# pyright: basic
"""Who speaks when, by pyannote.audio, the library behind whisperx's own diarization.

Every part of a pipeline is found first, on this machine or on the hub, and pyannote is given
directories only: it has then no reason to ask the hub, and what is missing is told in one place.
"""

import gc
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxroute_asr_whisperx.memory import free_memory
from voxroute_asr_whisperx.models import is_hub_id
from voxroute_serving.asr.diarizing import Turn
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.bounds import quoted
from voxroute_serving.device.failures import engine_error, is_out_of_memory, load_errors
from voxroute_serving.device.nvidia import cuda_memory
from voxroute_serving.device.weights import taken_bytes
from voxroute_serving.domain import Activity, DeviceInfo, ModelRef, Stop
from voxroute_serving.errors import ModelNotFoundError, ModelUnavailableError, ServingError
from voxroute_serving.models import hub

NAME = "pyannote"
CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "pytorch_model.bin"
PLDA_FILES = ("plda.npz", "xvec_transform.npz")
PIPELINE_FILES = (CONFIG_FILE, f"*{WEIGHTS_FILE}", "*.npz")
PIPELINE_CLASS = "pyannote.audio.pipelines.SpeakerDiarization"
_OWN_FOLDER = "$model/"  # how a config names a part in its own directory
_MIN_SAMPLES = SAMPLE_RATE // 10  # less holds no word, and pyannote's embeddings need more


class PyannoteDiarizer:
    """A Diarizer; see voxroute_serving.asr.diarizing for what its methods promise.

    `model` is a directory with a pyannote pipeline (config.yaml and its parts) or the hub's id of
    one. Loading runs code that the checkpoints name, so both must come from who is trusted.
    """

    def __init__(self, model: str, *, device: DeviceInfo, offline: bool, token: str | None) -> None:
        self._model = model
        self._device = device
        self._offline = offline
        self._token = token
        directory = Path(model).expanduser()
        self._id = directory.resolve().name if directory.is_dir() else model

    def available(self) -> ModelRef | None:
        """The model where all of its parts are on this machine."""
        try:
            parts = _Parts(self._model, offline=True, token=None)
            parts.config()
            return ModelRef(NAME, self._id, hub.revision_of(parts.directory))
        except ServingError:
            return None

    def device(self) -> DeviceInfo:
        """The hardware that runs it."""
        return self._device

    def resolve(self, model: str) -> str:
        """The id of the one model. Raises ModelNotFoundError."""
        if model not in ("", self._id, self._model):
            raise ModelNotFoundError(
                f"this service has no diarization model {quoted(model)}; it has {self._id!r}"
                " (--diarization-model names another)"
            )
        return self._id

    def fetch(self) -> None:
        """Gets the pipeline and its parts. Raises ModelNotFoundError, ModelUnavailableError."""
        _Parts(self._model, offline=self._offline, token=self._token).config()

    def load(self, model: str, activity: Activity) -> "PyannoteModel":
        """The pipeline on the device."""
        activity("fetching the diarization model")
        parts = _Parts(self._model, offline=self._offline, token=self._token)
        config = parts.config()
        activity(f"loading on {self._device.kind}")
        ref = ModelRef(NAME, model, hub.revision_of(parts.directory))
        with load_errors(f"the diarization model {model!r}"):
            return PyannoteModel(ref, config, self._device.kind)


class _Parts:
    """A pipeline's directory, and its config with every part as a path on this machine."""

    def __init__(self, model: str, *, offline: bool, token: str | None) -> None:
        self._model = model
        self._offline = offline
        self._token = token
        self.directory = self._find(model, CONFIG_FILE)

    def config(self) -> dict[str, Any]:
        """What `Pipeline.from_pretrained` takes. Raises ModelNotFoundError, ModelUnavailableError.

        A pipeline that does not cluster with PLDA (speaker-diarization-3.1) gets none: pyannote
        4.0 would fetch that of another gated model for it.
        """
        config = self._read()
        pipeline = config["pipeline"]
        parameters: dict[str, Any] = dict(pipeline.get("params") or {})
        for part in ("segmentation", "embedding"):
            if part not in parameters:
                raise self._invalid(f"its {CONFIG_FILE} names no {part} model")
            parameters[part] = self._part(parameters[part], (WEIGHTS_FILE,))
        if parameters.get("clustering", "VBxClustering") == "VBxClustering":
            if "plda" not in parameters:
                raise self._invalid(f"its {CONFIG_FILE} names no plda, which its clustering needs")
            parameters["plda"] = self._part(parameters["plda"], PLDA_FILES)
        else:
            parameters["plda"] = None
        return {**config, "pipeline": {**pipeline, "params": parameters}}

    def _read(self) -> dict[str, Any]:
        import yaml  # noqa: PLC0415 - only where a pipeline is looked at

        try:
            config = yaml.safe_load((self.directory / CONFIG_FILE).read_text(encoding="utf-8"))
            name = config["pipeline"]["name"]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise self._invalid(f"its {CONFIG_FILE} cannot be read") from error
        if name != PIPELINE_CLASS:
            raise self._invalid(f"its {CONFIG_FILE} is for {name}, not for {PIPELINE_CLASS}")
        return config

    def _part(self, named: object, files: Sequence[str]) -> str:
        """The path of a part's directory (PLDA) or of its weights."""
        folder = named
        subfolder = ""
        if isinstance(named, Mapping):  # {"checkpoint": HUB_ID, "subfolder": FOLDER}
            folder, subfolder = named.get("checkpoint"), str(named.get("subfolder") or "")
        if not isinstance(folder, str):
            raise self._invalid(f"a part of it is named {named!r}")
        if folder.startswith(_OWN_FOLDER):
            place = self.directory / folder.removeprefix(_OWN_FOLDER).partition("@")[0]
        elif (self.directory / folder).exists():
            place = self.directory / folder
        else:
            place = self._find(
                folder.partition("@")[0], *(Path(subfolder, f).as_posix() for f in files)
            )
        place /= subfolder
        if place.is_file():
            return str(place)
        missing = [file for file in files if not (place / file).is_file()]
        if missing:
            raise self._invalid(f"there is no {' and no '.join(missing)} in {place.name!r}")
        return str(place if len(files) > 1 else place / files[0])

    def _find(self, model: str, *files: str) -> Path:
        """The directory of a model that is here, or that is downloaded."""
        local = Path(model).expanduser()
        if local.exists():
            return local.resolve()
        if not is_hub_id(model):
            raise ModelNotFoundError(
                f"there is no diarization model {model!r}: it is neither a directory of this host"
                " nor a hub id such as pyannote/speaker-diarization-community-1"
            )
        if self._offline and any(hub.cached_file(model, file) is None for file in files):
            raise ModelUnavailableError(
                f"the model {model!r}, which the diarization {self._model!r} needs, is not on this"
                " host and the service is offline (--offline); download it where there is a network"
                " and name its directory in --diarization-model"
            )
        return hub.local_directory(
            model, offline=self._offline, token=self._token, allow_patterns=PIPELINE_FILES
        )

    def _invalid(self, reason: str) -> ModelNotFoundError:
        return ModelNotFoundError(
            f"the diarization model {self._model!r} cannot be used: {reason}; it must be a pyannote"
            " speaker diarization pipeline (config.yaml, and the models that it names)"
        )


class PyannoteModel:
    """A pipeline in the device's memory, for one recording at a time."""

    def __init__(self, ref: ModelRef, config: dict[str, Any], device: str) -> None:
        self.ref = ref
        self._device = device
        free_before = cuda_memory()[1] if device == "cuda" else None
        with warnings.catch_warnings(action="ignore"):
            import torch  # noqa: PLC0415 - takes seconds; only where speakers are told apart
            from pyannote.audio import Pipeline  # noqa: PLC0415 - as above
            from pyannote.audio.core.plda import PLDA  # noqa: PLC0415 - as above
            from pyannote.audio.telemetry import set_telemetry_metrics  # noqa: PLC0415 - as above

            # pyannote 4.0 would report each recording's length and its number of speakers to its
            # makers
            set_telemetry_metrics(False)
            pipeline = Pipeline.from_pretrained(_with_objects(config, PLDA))
        assert pipeline is not None  # noqa: S101 - only a hub id that is not found gives None
        pipeline.to(torch.device(device))
        self._pipeline: Any = pipeline
        self._lock = threading.Lock()  # `close` waits for a recording whose caller has left
        self.memory_bytes = taken_bytes(0, free_before)

    def diarize(
        self, samples: Samples, min_speakers: int | None, max_speakers: int | None, stop: Stop
    ) -> Sequence[Turn]:
        """The turns; where memory runs out, again with fewer windows at once, down to one."""
        if len(samples) < _MIN_SAMPLES:
            return []
        with self._lock:
            return self._turns(samples, min_speakers, max_speakers, stop)

    def close(self) -> None:
        """Frees the memory of the device."""
        with self._lock:
            self._pipeline = None
            gc.collect()
            free_memory(self._device)

    def _turns(
        self, samples: Samples, min_speakers: int | None, max_speakers: int | None, stop: Stop
    ) -> Sequence[Turn]:
        while not stop():
            try:
                return self._run(samples, min_speakers, max_speakers, stop)
            except _StoppedError:
                return []
            except Exception as error:
                failure = engine_error(error, "telling the speakers of this recording apart")
                if not is_out_of_memory(error) or stop() or not self._halve():
                    raise failure from error
            gc.collect()
            free_memory(self._device)
        return []

    def _run(
        self, samples: Samples, min_speakers: int | None, max_speakers: int | None, stop: Stop
    ) -> list[Turn]:
        import torch  # noqa: PLC0415 - imported by now

        def hook(*_args: object, **_fields: object) -> None:
            if stop():
                raise _StoppedError

        file = {"waveform": torch.from_numpy(samples)[None], "sample_rate": SAMPLE_RATE}
        with warnings.catch_warnings(action="ignore"):
            output = self._pipeline(
                {**file, "uri": "recording"},
                min_speakers=min_speakers,
                max_speakers=max_speakers,
                hook=hook,
            )
        # a pipeline in `legacy` mode gives the annotation itself
        annotation: Any = getattr(output, "speaker_diarization", output)
        return [
            Turn(float(segment.start), float(segment.end), str(label))
            for segment, _, label in annotation.itertracks(yield_label=True)
        ]

    def _halve(self) -> bool:
        """Fewer windows in a batch; false where it is one already."""
        pipeline = self._pipeline
        before = max(pipeline.segmentation_batch_size, pipeline.embedding_batch_size)
        pipeline.segmentation_batch_size = max(1, pipeline.segmentation_batch_size // 2)
        pipeline.embedding_batch_size = max(1, pipeline.embedding_batch_size // 2)
        return before > 1


class _StoppedError(Exception):
    """Nobody waits for the result any more."""


def _with_objects(config: dict[str, Any], plda_class: Any) -> dict[str, Any]:
    """The config with its models in the form in which pyannote looks at nothing but the path.

    It takes a text that holds "wespeaker" or "nvidia", a directory's name included, for another
    library's model, and a PLDA that is not used for one to be fetched.
    """
    parameters = dict(config["pipeline"]["params"])
    for part in ("segmentation", "embedding"):
        parameters[part] = {"checkpoint": parameters[part], "strict": False}
    if parameters["plda"] is None:
        parameters["plda"] = plda_class.__new__(plda_class)
    return {**config, "pipeline": {**config["pipeline"], "params": parameters}}
