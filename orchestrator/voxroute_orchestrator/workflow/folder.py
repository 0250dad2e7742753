"""The two-step workflow: `prepare` writes a job folder that a person may edit, `run-job` obeys it.

    out/jobs/<job-id>/job.json         what is to be done, as it was asked for
    out/jobs/<job-id>/.<job-id>.env    on what, with which model: for a person to edit
    out/jobs/<job-id>/<job-id>.log     what the runs said
    out/jobs/<job-id>/...              the results

A job runs with what its own folder says, whatever has changed on the host since.
"""

import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from dotenv.parser import parse_stream
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from voxroute_orchestrator import __version__
from voxroute_orchestrator.engines import backend_name
from voxroute_orchestrator.errors import OutputError, UsageError
from voxroute_orchestrator.files import write_atomic
from voxroute_orchestrator.fleet.hardware import Host
from voxroute_orchestrator.glossary import read as read_glossary
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.media import probe
from voxroute_orchestrator.names import is_file
from voxroute_orchestrator.names import shown as shown_name
from voxroute_orchestrator.pipeline.recording import check_part
from voxroute_orchestrator.reporter import Reporter, waits
from voxroute_orchestrator.settings import BUNDLED_ASR, BUNDLED_TRANSLATE, Settings, bundled_models
from voxroute_orchestrator.spec import SENT, DeviceName, JobSpec
from voxroute_orchestrator.subtitles.results import transcript_name
from voxroute_orchestrator.transcript import standard_tag
from voxroute_orchestrator.workflow.bootstrap import Recommendation

JOB_SCHEMA = "voxroute.job/1"
IN_FILE = sorted(
    SENT - {"source_languages", "target_languages", "asr_model", "glossary", "priority"}
)
"""The fields of a spec that a job's file holds; what else it needs is in its `.env` file."""

_SLUG_CHARACTERS = 24
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_GPU_TYPES = {"float16", "bfloat16", "int8_float16", "int4"}  # WhisperX has these on no CPU

Workflow = Literal["transcribe", "translate"]


class JobConfig(BaseModel):
    """What the `.env` file of a job says, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    WHISPERX_DEVICE: DeviceName
    WHISPER_BACKEND: Annotated[str, AfterValidator(backend_name)]
    WHISPER_MODEL: str = Field(min_length=1)
    WHISPER_COMPUTE_TYPE: Literal[
        "auto", "float16", "bfloat16", "float32", "int8", "int8_float16", "int8_float32", "int4"
    ]
    BATCH_SIZE: int = Field(ge=1, le=256)
    INDICTRANS2_DEVICE: DeviceName
    SOURCE_LANGUAGE: str
    """BCP-47; "auto" or "" to detect it."""
    TARGET_LANGUAGE: str
    """BCP-47 with commas; "" for a transcript only."""

    @field_validator("SOURCE_LANGUAGE", "TARGET_LANGUAGE")
    @classmethod
    def _known(cls, value: str) -> str:
        parts = [part.strip() for part in value.split(",") if part.strip()]
        return ",".join(part if part == "auto" else standard_tag(part) for part in parts)

    @property
    def sources(self) -> tuple[str, ...]:
        """The languages that are spoken; none to detect it."""
        spoken = self.SOURCE_LANGUAGE.split(",")
        return tuple(part for part in spoken if part not in {"", "auto"})

    @property
    def targets(self) -> tuple[str, ...]:
        """The languages wanted."""
        return tuple(part for part in self.TARGET_LANGUAGE.split(",") if part)


_COMMENTS: Mapping[str, str] = {
    "WHISPERX_DEVICE": "mps, cuda, cpu, or auto",
    "WHISPER_BACKEND": "mlx (Apple GPU), whisperx (CUDA, CPU), or auto",
    "WHISPER_MODEL": "large-v3, medium, base, ..., a hub id, or a directory",
    "WHISPER_COMPUTE_TYPE": "float16 (GPU), int8 (CPU), float32, or auto",
    "BATCH_SIZE": "windows of 30 s at once; lower it where memory is short",
    "INDICTRANS2_DEVICE": "mps, cuda, cpu, or auto: where the translation runs",
    "SOURCE_LANGUAGE": "hi, en, ...; auto to detect it",
    "TARGET_LANGUAGE": "en, or several as en,ta; empty for a transcript only",
}


class JobFile(BaseModel):
    """`job.json`: what is to be done."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_alias=True)

    schema_: Literal["voxroute.job/1"] = Field(default=JOB_SCHEMA, alias="schema")
    job_id: str
    created_at: str
    voxroute_version: str
    workflow: Workflow
    media: str
    """Absolute path."""
    media_bytes: int
    """Size when the job was prepared, to notice another file of that name."""
    asked: JobSpec
    """What is asked for; in the file its fields stand among these, but for what `.env` says."""
    glossary: str = ""
    """Absolute path; "" for none."""
    log_level: str = "info"
    notes: tuple[str, ...] = ()
    """What was said about this host when the job was prepared."""

    @model_validator(mode="before")
    @classmethod
    def _asked_apart(cls, value: object) -> object:
        if not isinstance(value, dict) or "asked" in value:
            return cast("object", value)
        fields = cast("dict[str, object]", value)
        asked = {name: fields[name] for name in IN_FILE if name in fields}
        others = {name: one for name, one in fields.items() if name not in asked}
        return {**others, "asked": asked}

    @model_serializer(mode="wrap")
    def _asked_among(self, serialised: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialised(self)
        asked = fields.pop("asked")
        return {**fields, **{name: asked[name] for name in IN_FILE}}


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The files of a job."""

    path: Path

    @property
    def job_id(self) -> str:
        """The name of the job."""
        return self.path.name

    @property
    def job_file(self) -> Path:
        """What is to be done."""
        return self.path / "job.json"

    @property
    def env_file(self) -> Path:
        """On what it is to be done."""
        return self.path / f".{self.job_id}.env"

    @property
    def journal(self) -> Path:
        """What an interrupted run has finished."""
        return self.path / f".{self.job_id}.journal"

    @property
    def log_file(self) -> Path:
        """What the runs said."""
        return self.path / f"{self.job_id}.log"


def prepare_job(  # noqa: PLR0917 - what a job's folder is made of
    media: Path,
    workflow: Workflow,
    asked: JobSpec,
    glossary: Path | None,
    log_level: str,
    work_dir: Path,
    best: Recommendation,
) -> JobFolder:
    """A new job folder. Raises MediaError, UsageError and OutputError."""
    if workflow == "translate" and not asked.target_languages:
        raise UsageError("name the language to translate to with --target-language, such as en")
    if glossary is not None:
        read_glossary(glossary)  # what is wrong with it is told now
    found = probe(media, stream=asked.audio_stream, language=asked.source)
    if asked.mux:
        from voxroute_orchestrator.subtitles.mux import plan  # noqa: PLC0415 - few jobs want it

        plan(media)  # what cannot be copied is told now
    check_part(asked, found)
    config = JobConfig(
        WHISPERX_DEVICE=cast("DeviceName", best.whisperx_device),
        WHISPER_BACKEND=best.whisper_backend,
        WHISPER_MODEL=best.whisper_model,
        WHISPER_COMPUTE_TYPE="float16" if best.compute_type == "float16" else "int8",
        BATCH_SIZE=best.batch_size,
        INDICTRANS2_DEVICE=cast("DeviceName", best.indictrans2_device),
        SOURCE_LANGUAGE=asked.source or "auto",
        TARGET_LANGUAGE=",".join(asked.target_languages) if workflow == "translate" else "",
    )
    folder = _new_folder(work_dir, found.title)
    job = JobFile(
        schema=JOB_SCHEMA,
        job_id=folder.job_id,
        created_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        voxroute_version=__version__,
        workflow=workflow,
        media=str(media.resolve()),
        media_bytes=media.stat().st_size,
        asked=replace(asked, translate_model=best.translate_model),
        glossary=str(glossary.resolve()) if glossary else "",
        log_level=log_level,
        notes=best.notes,
    )
    write_atomic(folder.env_file, _env_text(folder, config))
    write_atomic(folder.job_file, _json_of(job))
    return folder


def _json_of(job: JobFile) -> str:
    """The job's file; bytes of a path that are no UTF-8 are escaped."""
    text = json.dumps(job.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False)
    return re.sub("[\udc80-\udcff]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _new_folder(work_dir: Path, title: str) -> JobFolder:
    """Makes out/jobs/20260131-movie-1, or -2 where that is there."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:_SLUG_CHARACTERS].strip("-")
    day = datetime.now().astimezone().strftime("%Y%m%d")
    jobs = work_dir / "jobs"
    number = 0
    try:
        jobs.mkdir(parents=True, exist_ok=True)
        while True:
            number += 1
            path = jobs / f"{day}-{slug or 'job'}-{number}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return JobFolder(path)
    except OSError as error:
        raise OutputError(
            f"no job folder can be made in {jobs} ({error.strerror}); set VOXROUTE_WORK_DIR to a"
            " folder that can be written"
        ) from error


def _env_text(folder: JobFolder, config: JobConfig) -> str:
    """The `.env` file: a comment and a value for each setting."""
    lines = [
        f"# Job {folder.job_id}: edit what follows, then run  ./run-pipeline.sh -j {folder.job_id}",
    ]
    for name, value in config.model_dump().items():
        lines += ["", f"# {_COMMENTS[name]}", f"{name}={value}"]
    return "\n".join(lines) + "\n"


def find_job(work_dir: Path, job_id: str) -> JobFolder:
    """The folder of a job. Raises UsageError where there is none."""
    folder = JobFolder(work_dir / "jobs" / job_id)
    if not _JOB_ID.fullmatch(job_id) or not folder.job_file.is_file():
        try:
            there = sorted(path.parent.name for path in (work_dir / "jobs").glob("*/job.json"))
        except OSError:
            there = []
        known = f"; the newest are {', '.join(there[-5:])}" if there else ""
        raise UsageError(
            f"there is no job {job_id} in {work_dir / 'jobs'}{known}. ./prepare-job.sh makes one"
        )
    return folder


def read_job(folder: JobFolder) -> JobFile:
    """What is to be done. Raises UsageError."""
    try:
        return JobFile.model_validate(json.loads(folder.job_file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder.job_file} cannot be used ({_problems(error)}); prepare the job again"
        ) from error


def read_config(path: Path) -> JobConfig:
    """The job's `.env` file, parsed as python-dotenv does. Raises UsageError for what is wrong.

    Nothing is taken from the environment, and `$` stands for itself.
    """
    try:
        bindings = list(parse_stream(io.StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    values: dict[str, str] = {}
    for binding in bindings:
        if binding.error:
            raise UsageError(
                f"{path}, line {binding.original.line}: {binding.original.string.strip()!r} is no"
                " NAME=VALUE"
            )
        if binding.key is None:
            continue  # a comment or an empty line
        if binding.key in values:
            raise UsageError(f"{path} sets {binding.key} twice; keep one of the lines")
        values[binding.key] = (binding.value or "").strip()
    try:
        return JobConfig.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{path} is not right: {_problems(error)}") from error


def _problems(error: Exception) -> str:
    """What is wrong, setting by setting, as a sentence for a person."""
    if not isinstance(error, ValidationError):
        return str(error)
    sentences: list[str] = []
    for problem in error.errors():
        name = ".".join(map(str, problem["loc"])) or "the file"
        match problem["type"]:
            case "missing":
                sentences.append(f"{name} is missing ({_COMMENTS.get(name, 'add it')})")
            case "extra_forbidden":
                sentences.append(f"{name} is no setting; there are {', '.join(_COMMENTS)}")
            case _:
                said = problem["msg"].removeprefix("Value error, ")
                sentences.append(f"{name}={problem['input']}: {said}")
    return "; ".join(sentences)


def job_of(folder: JobFolder, job: JobFile, config: JobConfig, host: Host, told: Reporter) -> Job:
    """What the run of a job is, with a line for each thing that was decided. Raises UsageError.

    On a Mac whose backend is not MLX the CPU does the work, because WhisperX knows no Metal.
    """
    told.say(f"Configured device: {config.WHISPERX_DEVICE} (from job config)")
    told.say(f"Configured backend: {config.WHISPER_BACKEND} (from job config)")
    device, backend, compute_type = (
        config.WHISPERX_DEVICE,
        config.WHISPER_BACKEND,
        config.WHISPER_COMPUTE_TYPE,
    )
    if device == "mps" and backend == "whisperx":
        told.warn("MPS device detected but MLX backend not configured")
    elif device == "mps" and host.mps and host.engine("asr", "mps") is None:
        told.warn("MPS device detected but MLX cannot be imported; install voxroute-asr-mlx")
        backend = "whisperx"
    elif device == "mps" and backend in {"auto", "mlx"}:
        told.say("Using MLX-Whisper for MPS acceleration")
        backend = "mlx"
    if device == "mps" and backend == "whisperx":
        told.warn("Falling back to CPU (slower performance)")
        device = "cpu"
        compute_type = "auto"  # what suits the Apple GPU need not run on the CPU
    on_cpu = device == "cpu" or (device == "auto" and host.accelerator == "cpu")
    if on_cpu and backend != "mlx" and compute_type in _GPU_TYPES:
        told.warn(f"WHISPER_COMPUTE_TYPE={compute_type} does not run on the CPU; int8 is used")
        compute_type = "int8"
    told.say(
        f"Model: {config.WHISPER_MODEL}, compute type {compute_type}, batch size"
        f" {config.BATCH_SIZE}"
    )
    return Job(
        spec=replace(
            job.asked,
            source_languages=config.sources,
            target_languages=config.targets,
            asr_model=config.WHISPER_MODEL,
            glossary=read_glossary(Path(job.glossary)) if job.glossary else (),
            backend=backend,
            device=device,
            translate_device=config.INDICTRANS2_DEVICE,
            compute_type="" if compute_type == "auto" else compute_type,
            batch_size=config.BATCH_SIZE,
        ),
        media=Path(job.media),
        folder=folder.path,
        overwrite=True,
        journal=folder.journal,
        job_id=folder.job_id,
    )


def for_this_place(job: Job, settings: Settings, folder: JobFolder, told: Reporter) -> Job:
    """The job without bundled models that are not where the job runs; tells of them once.

    They are on the host that starts its services itself, not on one that has others do the work.
    """
    missing = bundled_models(settings) is None
    models = (
        ("asr_model", BUNDLED_ASR, settings.asr_endpoints),
        ("translate_model", BUNDLED_TRANSLATE, settings.translate_endpoints),
    )
    not_there = {
        name: bundled
        for name, bundled, elsewhere in models
        if getattr(job.spec, name) == bundled and (missing or elsewhere)
    }
    if not_there:
        told.warn(
            f"the job was prepared for the bundled {' and '.join(not_there.values())}, and runs"
            " elsewhere: the services' own models do the work. WHISPER_MODEL in"
            f" {shown(folder.env_file)} names another"
        )
    return replace(job, spec=replace(job.spec, **dict.fromkeys(not_there, "")))


def check_media(job: JobFile, told: Reporter) -> None:
    """Tells where the media file is not the one that the job was prepared for."""
    path = Path(job.media)
    if is_file(path) and path.stat().st_size != job.media_bytes:
        told.warn(
            f"{shown_name(path)} has another size than when the job was prepared; is it the same"
            " film?"
        )


def completed(folder: JobFolder, job: JobFile) -> bool:
    """Whether a run of the job has finished."""
    return (folder.path / transcript_name(Path(job.media).stem)).is_file()


class JobReporter:
    """A reporter that also writes what is said into the job's log file."""

    def __init__(self, told: Reporter, path: Path) -> None:
        self._told = told
        self._handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._logger = logging.Logger(f"job.{path.stem}")  # noqa: LOG001 - it is this run's own
        self._logger.addHandler(self._handler)

    def stage(self, name: str, total_s: float | None) -> None:
        """Begins a stage."""
        self._logger.info(name)
        self._told.stage(name, total_s)

    def advance(self, name: str, done_s: float) -> None:
        """Tells how far a stage is."""
        self._told.advance(name, done_s)

    def finish(self, name: str) -> None:
        """Ends a stage."""
        self._told.finish(name)

    def say(self, text: str) -> None:
        """Tells something."""
        self._logger.info(text)
        self._told.say(text)

    def warn(self, text: str) -> None:
        """Tells something that a person should look at."""
        self._logger.warning(text)
        self._told.warn(text)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Tells that something is waited for."""
        self._logger.info(what)
        with waits(self._told)(what):
            yield

    def failed(self, text: str) -> None:
        """Writes why the run ended; the command itself tells the person."""
        self._logger.error(text)

    def close(self) -> None:
        """Closes the log file."""
        self._handler.close()


def shown(path: Path) -> str:
    """The path as a person would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def job_summary(folder: JobFolder, config: JobConfig) -> list[str]:
    """What a person is told of a new job."""
    return [
        f"Job: {folder.job_id}",
        f"Config: {shown(folder.env_file)}",
        *(f"  {name}={value}" for name, value in config.model_dump().items()),
        f"Next: ./run-pipeline.sh -j {folder.job_id}",
    ]
