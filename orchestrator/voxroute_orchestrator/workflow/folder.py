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
from typing import Literal, cast

from dotenv.parser import parse_stream
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from voxroute_orchestrator import __version__
from voxroute_orchestrator.errors import OutputError, UsageError
from voxroute_orchestrator.files import write_atomic
from voxroute_orchestrator.fleet.hardware import Host
from voxroute_orchestrator.glossary import read as read_glossary
from voxroute_orchestrator.job import JobOptions
from voxroute_orchestrator.media import probe
from voxroute_orchestrator.names import is_file
from voxroute_orchestrator.names import shown as shown_name
from voxroute_orchestrator.reporter import Reporter, clock, waits
from voxroute_orchestrator.settings import BUNDLED_ASR, BUNDLED_TRANSLATE, Settings, bundled_models
from voxroute_orchestrator.subtitles.formats import DEFAULT_FORMATS
from voxroute_orchestrator.subtitles.results import ResultForm, transcript_name
from voxroute_orchestrator.transcript import standard_tag
from voxroute_orchestrator.workflow.bootstrap import Recommendation

JOB_SCHEMA = "voxroute.job/1"

_SLUG_CHARACTERS = 24
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LONGEST_TIME = 20  # characters of it in a message
_MAX_TIME_S = 366 * 24 * 3600.0
_CLOCK = re.compile(r"(\d+:){0,2}\d+(\.\d+)?")

_GPU_TYPES = {"float16", "bfloat16", "int8_float16", "int4"}  # WhisperX has these on no CPU

Workflow = Literal["transcribe", "translate"]
DeviceName = Literal["auto", "mps", "cuda", "cpu"]


class JobConfig(BaseModel):
    """What the `.env` file of a job says, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    WHISPERX_DEVICE: DeviceName
    WHISPER_BACKEND: Literal["auto", "mlx", "whisperx"]
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
    def source(self) -> str | None:
        """The language that is spoken; None to detect it."""
        return None if self.SOURCE_LANGUAGE in {"", "auto"} else self.SOURCE_LANGUAGE

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
    start_s: float = 0.0
    end_s: float | None = None
    audio_stream: int | None = None
    audio_channel: int | None = None
    words: bool = False
    align: bool = False
    speakers: bool = False
    min_speakers: int = 0
    max_speakers: int = 0
    glossary: str = ""
    """Absolute path; "" for none."""
    vad_disabled: bool = False
    formats: tuple[str, ...] = DEFAULT_FORMATS
    speaker_prefix: bool = False
    drop_flagged: bool = False
    mux: bool = False
    translate_model: str = ""
    log_level: str = "info"
    notes: tuple[str, ...] = ()
    """What was said about this host when the job was prepared."""


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


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a person asks for when a job is prepared."""

    media: Path
    workflow: Workflow
    source: str | None
    targets: tuple[str, ...]
    start: str = ""
    end: str = ""
    audio_stream: int | None = None
    audio_channel: int | None = None
    words: bool = False
    align: bool = False
    speakers: bool = False
    min_speakers: int = 0
    max_speakers: int = 0
    glossary: Path | None = None
    vad_disabled: bool = False
    formats: tuple[str, ...] = DEFAULT_FORMATS
    speaker_prefix: bool = False
    drop_flagged: bool = False
    mux: bool = False
    log_level: str = "info"


def prepare_job(asked: Preparation, work_dir: Path, best: Recommendation) -> JobFolder:
    """A new job folder. Raises MediaError, UsageError and OutputError."""
    if asked.workflow == "translate" and not asked.targets:
        raise UsageError("name the language to translate to with --target-language, such as en")
    if asked.glossary is not None:
        read_glossary(asked.glossary)  # what is wrong with it is told now
    media = probe(asked.media, stream=asked.audio_stream, language=asked.source)
    if asked.mux:
        from voxroute_orchestrator.subtitles.mux import plan  # noqa: PLC0415 - few jobs want it

        plan(asked.media)  # what cannot be copied is told now
    start_s = time_of(asked.start, "--start-time") or 0.0
    end_s = time_of(asked.end, "--end-time")
    _check_times(start_s, end_s, media.duration_s)
    config = JobConfig(
        WHISPERX_DEVICE=cast("DeviceName", best.whisperx_device),
        WHISPER_BACKEND=best.whisper_backend,
        WHISPER_MODEL=best.whisper_model,
        WHISPER_COMPUTE_TYPE="float16" if best.compute_type == "float16" else "int8",
        BATCH_SIZE=best.batch_size,
        INDICTRANS2_DEVICE=cast("DeviceName", best.indictrans2_device),
        SOURCE_LANGUAGE=asked.source or "auto",
        TARGET_LANGUAGE=",".join(asked.targets) if asked.workflow == "translate" else "",
    )
    folder = _new_folder(work_dir, media.title)
    job = JobFile(
        schema=JOB_SCHEMA,
        job_id=folder.job_id,
        created_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        voxroute_version=__version__,
        workflow=asked.workflow,
        media=str(asked.media.resolve()),
        media_bytes=asked.media.stat().st_size,
        start_s=start_s,
        end_s=end_s,
        audio_stream=asked.audio_stream,
        audio_channel=asked.audio_channel,
        words=asked.words,
        align=asked.align,
        speakers=asked.speakers,
        min_speakers=asked.min_speakers,
        max_speakers=asked.max_speakers,
        glossary=str(asked.glossary.resolve()) if asked.glossary else "",
        vad_disabled=asked.vad_disabled,
        formats=asked.formats,
        speaker_prefix=asked.speaker_prefix,
        drop_flagged=asked.drop_flagged,
        mux=asked.mux,
        translate_model=best.translate_model,
        log_level=asked.log_level,
        notes=best.notes,
    )
    write_atomic(folder.env_file, _env_text(folder, config))
    write_atomic(folder.job_file, _json_of(job))
    return folder


def _json_of(job: JobFile) -> str:
    """The job's file; bytes of a path that are no UTF-8 are escaped."""
    text = json.dumps(job.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False)
    return re.sub("[\udc80-\udcff]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def time_of(text: str, flag: str) -> float | None:
    """Seconds of "90", "1:30" or "00:01:30.5"; None for "". Raises UsageError."""
    if not text.strip():
        return None
    said = shown_name(text.strip()[:_LONGEST_TIME])
    if not _CLOCK.fullmatch(text.strip()):
        raise UsageError(f"{flag} {said}: write seconds, M:SS or H:MM:SS, as in 1:30")
    first, *others = [float(part) for part in text.strip().split(":")]
    if any(part >= 60 for part in others):  # noqa: PLR2004 - seconds and minutes
        raise UsageError(
            f"{flag} {said}: minutes and seconds behind a colon go up to 59; write seconds, M:SS or"
            " H:MM:SS, as in 1:30"
        )
    seconds = first
    for part in others:
        seconds = seconds * 60 + part
    if seconds > _MAX_TIME_S:
        raise UsageError(f"{flag} {said}: it is more than a year; write seconds, M:SS or H:MM:SS")
    return seconds


def _check_times(start_s: float, end_s: float | None, duration_s: float | None) -> None:
    if end_s is not None and end_s <= start_s:
        raise UsageError(
            f"--end-time ({clock(end_s)}) must be later than --start-time ({clock(start_s)})"
        )
    if duration_s is not None and start_s >= duration_s:
        raise UsageError(
            f"--start-time {clock(start_s)} is beyond the end of the media ({clock(duration_s)})"
        )


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


def options_of(
    folder: JobFolder, job: JobFile, config: JobConfig, host: Host, told: Reporter
) -> JobOptions:
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
    elif device == "mps" and host.mps and not host.mlx:
        told.warn("MPS device detected but MLX cannot be imported; install voxroute-asr-mlx")
        backend = "whisperx"
    elif device == "mps":
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
    return JobOptions(
        media=Path(job.media),
        source=config.source,
        targets=config.targets,
        folder=folder.path,
        model=config.WHISPER_MODEL,
        translate_model=job.translate_model,
        audio_stream=job.audio_stream,
        audio_channel=job.audio_channel,
        words=job.words,
        align=job.align,
        speakers=job.speakers,
        min_speakers=job.min_speakers,
        max_speakers=job.max_speakers,
        glossary=read_glossary(Path(job.glossary)) if job.glossary else (),
        vad_disabled=job.vad_disabled,
        form=ResultForm(
            formats=job.formats,
            speaker_prefix=job.speaker_prefix,
            drop_flagged=job.drop_flagged,
        ),
        mux=job.mux,
        strict=False,
        overwrite=True,
        start_s=job.start_s,
        end_s=job.end_s,
        backend=backend,
        device=device,
        translate_device=config.INDICTRANS2_DEVICE,
        compute_type="" if compute_type == "auto" else compute_type,
        batch_size=config.BATCH_SIZE,
        journal=folder.journal,
        job_id=folder.job_id,
    )


def for_this_place(
    options: JobOptions, settings: Settings, folder: JobFolder, told: Reporter
) -> JobOptions:
    """The options without bundled models that are not where the job runs; tells of them once.

    They are on the host that starts its services itself, not on one that has others do the work.
    """
    missing = bundled_models(settings) is None
    models = (
        ("model", options.model, BUNDLED_ASR, settings.asr_endpoints),
        (
            "translate_model",
            options.translate_model,
            BUNDLED_TRANSLATE,
            settings.translate_endpoints,
        ),
    )
    not_there = {
        name: model
        for name, model, bundled, elsewhere in models
        if model == bundled and (missing or elsewhere)
    }
    if not_there:
        told.warn(
            f"the job was prepared for the bundled {' and '.join(not_there.values())}, and runs"
            " elsewhere: the services' own models do the work. WHISPER_MODEL in"
            f" {shown(folder.env_file)} names another"
        )
    return replace(options, **dict.fromkeys(not_there, ""))


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
