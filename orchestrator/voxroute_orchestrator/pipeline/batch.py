"""Many recordings in one run: found in folders and by patterns, done with one set of services.

A recording that fails stops no other. The services are those of the first recording to need them:
they are found or started once.
"""

import asyncio
import contextlib
import dataclasses
import glob
import os
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import (
    MediaError,
    MediaNotFoundError,
    NoAudioError,
    VoxrouteError,
)
from voxroute_orchestrator.fleet.connect import Connected, services
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.media import probe
from voxroute_orchestrator.names import alike, exists, fitted, is_folder, shown, told_apart
from voxroute_orchestrator.pipeline.recording import environment, needs_of, probed, transcribe_media
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.reporter import Reporter, waits
from voxroute_orchestrator.settings import Settings
from voxroute_serving.audio.media import Watch, media_suffixes
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import get_logger

_MAGIC = "*?["
# From the mildest to the worst; a defect may have spoilt what looks well.
_SEVERITY = {0: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 1: 6}

State = Literal["done", "failed", "interrupted", "not begun"]
R = TypeVar("R", AsrClient, TranslateClient)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recording:
    """A file of the batch; `below` is the folder that it was found in, for its place in results."""

    path: Path
    below: Path


@dataclass(slots=True)
class Outcome:
    """What became of a recording."""

    media: Path
    folder: Path
    name: str = ""
    """What lines about it begin with; no other recording of the run has it."""
    state: State = "not begun"
    error: VoxrouteError | None = None
    took_s: float = 0.0
    lines: list[str] = field(default_factory=list[str])
    """What `voxroute run` says of it."""


def is_batch(arguments: Sequence[str]) -> bool:
    """Whether the arguments name more than one file."""
    return len(arguments) != 1 or _is_pattern(arguments[0]) or is_folder(arguments[0])


def find(arguments: Sequence[str]) -> list[Recording]:
    """The recordings that the arguments name: each once, in the order of the arguments.

    A file is taken as it is. Of a folder, with all below it, and of a pattern (`**` for any
    folders) those files are taken that have audio, and those that cannot be read though they are
    called like media: nobody would miss them otherwise. Raises MediaNotFoundError for an argument
    that names nothing.
    """
    found: dict[Path, Recording] = {}
    for argument in arguments:
        path = Path(argument)
        if is_folder(path):
            recordings = [Recording(file, path) for file in _below(path) if _is_recording(file)]
            what = "no file with audio"
        elif _is_pattern(argument):
            root = _fixed_part(argument)
            matches = sorted(map(Path, glob.glob(argument, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute pattern
            recordings = [
                Recording(m, root) for m in matches if not m.is_dir() and _is_recording(m)
            ]
            what = "no file with audio fits it"
        else:
            recordings, what = [Recording(path, path.parent)], ""
        if not recordings:
            raise MediaNotFoundError(f"{shown(argument)}: {what}; check the path")
        for recording in recordings:
            found.setdefault(recording.path.resolve(), recording)
    return list(found.values())


def _is_pattern(argument: str) -> bool:
    return any(sign in argument for sign in _MAGIC) and not exists(argument)


def _fixed_part(pattern: str) -> Path:
    """The folder above the first part that is a pattern."""
    parts = Path(pattern).parts
    fixed = next(k for k, part in enumerate(parts) if any(sign in part for sign in _MAGIC))
    return Path(*parts[:fixed])


def _below(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def _is_recording(path: Path) -> bool:
    try:
        probe(path)
    except NoAudioError:
        return False
    except MediaError:
        return path.suffix.lower().removeprefix(".") in media_suffixes()
    return True


def folders_of(recordings: Sequence[Recording], output: Path) -> list[Path]:
    """The folder of each recording's results.

    It is `output`; where several recordings have the same title, those keep the sub-folders that
    they were found in, and where that does not tell them apart, a folder of their whole name.
    """
    titles = Counter(alike(recording.path.stem) for recording in recordings)
    folders = [
        output if titles[alike(r.path.stem)] == 1 else output / _relative(r.path.parent, r.below)
        for r in recordings
    ]
    by_place: defaultdict[tuple[Path, str], list[int]] = defaultdict(list)
    for index, recording in enumerate(recordings):
        by_place[folders[index], alike(recording.path.stem)].append(index)
    for indices in by_place.values():
        if len(indices) == 1:
            continue
        names = Counter(alike(recordings[index].path.name) for index in indices)
        counted: Counter[str] = Counter()
        for index in indices:
            name = recordings[index].path.name
            counted[alike(name)] += 1
            number = counted[alike(name)]
            folders[index] /= fitted(name, f"-{number}") if names[alike(name)] > 1 else name
    return folders


def _relative(parent: Path, below: Path) -> Path:
    return parent.relative_to(below) if parent.is_relative_to(below) else Path()


async def run_batch(
    recordings: Sequence[Recording],
    job: Job,
    settings: Settings,
    told: Reporter,
    *,
    at_once: int,
) -> list[Outcome]:
    """Does the recordings, so many at once; how each ended, in their order.

    `job` is that of every recording, but for its place. Cancelling ends all, and what is finished
    of each is kept; the outcomes are returned all the same, the last ones "interrupted" and "not
    begun".
    """
    folders = folders_of(recordings, job.folder)
    names = told_apart(recording.path for recording in recordings)
    outcomes = [
        Outcome(recording.path, folder, name)
        for recording, folder, name in zip(recordings, folders, names, strict=True)
    ]
    batch = _Batch(job, settings, told)
    for outcome in outcomes:
        await batch.check(outcome)
    waiting = iter([outcome for outcome in outcomes if outcome.state == "not begun"])

    async def work() -> None:
        for outcome in waiting:
            await batch.do(outcome)

    with (
        contextlib.suppress(asyncio.CancelledError),
        tracing.span("recordings", {"voxroute.recordings": len(recordings)}, root=True),
    ):
        async with contextlib.AsyncExitStack() as stack:
            batch.stack = stack
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work())
    return outcomes


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 where all succeeded; else the worst of the codes, 1 (a defect) before 6, 5, 4, 3, 2."""
    codes = [outcome.error.code if outcome.error else 0 for outcome in outcomes]
    return max(codes, key=lambda code: _SEVERITY.get(code, len(_SEVERITY)), default=0)


def table_row(outcome: Outcome) -> tuple[str, str, str, str]:
    """Recording, state, time taken, and the folder of the results or why there are none."""
    said = str(outcome.error).splitlines()[0] if outcome.error else shown(outcome.folder)
    took = f"{outcome.took_s:.1f} s" if outcome.took_s else ""
    return shown(outcome.media), outcome.state, took, said


class _Batch:
    """What the recordings share."""

    def __init__(self, job: Job, settings: Settings, told: Reporter) -> None:
        self.stack = contextlib.AsyncExitStack()
        self._job = job
        self._settings = settings
        self._told = told
        self._lock = asyncio.Lock()
        self._shared: _Shared | None = None
        self._failed: VoxrouteError | None = None

    async def check(self, outcome: Outcome) -> None:
        """Finds what cannot be used, or is done, before any service is started."""
        job = self._job_of(outcome)
        try:
            lines = await reading(Watch(shown(outcome.media)), lambda: probed(job)[1])
        except VoxrouteError as error:
            self._fail(outcome, error)
            return
        if lines is not None:
            outcome.state, outcome.lines = "done", lines

    def _job_of(self, outcome: Outcome) -> Job:
        return dataclasses.replace(self._job, media=outcome.media, folder=outcome.folder)

    async def do(self, outcome: Outcome) -> None:
        """Does one recording; a failure is in its outcome."""
        started = time.monotonic()
        told = _Named(self._told, outcome.name)
        try:
            shared = await self._services()
            outcome.lines = await transcribe_media(
                self._job_of(outcome), self._settings, told, connected=shared.for_a_job()
            )
        except asyncio.CancelledError:
            outcome.state = "interrupted"
            raise
        except VoxrouteError as error:
            self._fail(outcome, error)
        except Exception as error:  # noqa: BLE001 - logged; the others go on
            _log.exception("defect", media=shown(outcome.media))
            defect = VoxrouteError(f"{type(error).__name__}: {error}; a defect, see the log")
            self._fail(outcome, defect)
        else:
            outcome.state = "done"
        finally:
            outcome.took_s = time.monotonic() - started

    def _fail(self, outcome: Outcome, error: VoxrouteError) -> None:
        outcome.state, outcome.error = "failed", error
        self._told.warn(f"{shown(outcome.media)}: {error}")

    async def _services(self) -> "_Shared":
        """The services, found or started by the first who asks. Raises VoxrouteError."""
        async with self._lock:
            if self._failed is not None:
                raise self._failed  # what did not start for one starts for none
            if self._shared is None:
                needs = needs_of(self._job)
                told = self._told
                try:
                    connected = await self.stack.enter_async_context(
                        services(
                            self._settings,
                            needs,
                            environment(),
                            told.say,
                            told.warn,
                            waits=waits(told),
                        )
                    )
                except VoxrouteError as error:
                    self._failed = error
                    raise
                self._shared = _Shared(connected)
            return self._shared


class _Shared:
    """The services, with one succession for all: no recording goes back to one that gave up."""

    def __init__(self, connected: Connected) -> None:
        self._connected = connected
        self._speech = _Succession(connected.speech, connected.next_asr)
        self._translators = _Succession(connected.translators, connected.next_translate)

    def for_a_job(self) -> Connected:
        """The services as one recording is to see them."""
        speech, next_asr = self._speech.join()
        translators, next_translate = self._translators.join()
        return dataclasses.replace(
            self._connected,
            speech=speech,
            translators=translators,
            next_asr=next_asr,
            next_translate=next_translate,
        )


class _Succession(Generic[R]):
    """The services whose turn it is, and what finds the next."""

    def __init__(self, first: tuple[R, ...], following: Callable[[], Awaitable[R | None]]) -> None:
        self._current = first
        self._following = following
        self._lock = asyncio.Lock()

    def join(self) -> tuple[tuple[R, ...], Callable[[], Awaitable[R | None]]]:
        """The services whose turn it is, and what a recording asks when they have given up."""
        seen = self._current

        async def after() -> R | None:
            nonlocal seen
            async with self._lock:
                if self._current is seen:
                    successor = await self._following()
                    if successor is None:
                        return None
                    self._current = (successor,)
                seen = self._current
                return seen[0]

        return self._current, after


class _Named:
    """A reporter of one recording among several: what it tells begins with its name there."""

    def __init__(self, told: Reporter, name: str) -> None:
        self._told = told
        self._name = name

    def stage(self, name: str, total_s: float | None) -> None:
        """Begins a stage."""
        self._told.stage(self._named(name), total_s)

    def advance(self, name: str, done_s: float) -> None:
        """Tells how far a stage is."""
        self._told.advance(self._named(name), done_s)

    def finish(self, name: str) -> None:
        """Ends a stage."""
        self._told.finish(self._named(name))

    def say(self, text: str) -> None:
        """Tells something."""
        self._told.say(self._named(text))

    def warn(self, text: str) -> None:
        """Tells something that a person should look at."""
        self._told.warn(self._named(text))

    def _named(self, text: str) -> str:
        return f"{self._name}: {text}"
