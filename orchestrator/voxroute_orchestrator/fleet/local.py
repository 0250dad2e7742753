"""What a service of this host is started with."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxroute_orchestrator.fleet import routing
from voxroute_orchestrator.fleet.local_process import LocalSpec
from voxroute_orchestrator.fleet.survey import SPEECH, TRANSLATION
from voxroute_orchestrator.settings import (
    BUNDLED_ALIGN,
    BUNDLED_ALIGN_LANGUAGES,
    BUNDLED_ASR,
    BUNDLED_TRANSLATE,
    Settings,
    bundled_models,
)
from voxroute_orchestrator.spec import JobSpec

if TYPE_CHECKING:
    from voxroute_orchestrator.models.at_hand import Choice


_PROTECTION = {f"VOXROUTE_{name}" for name in ("TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA")} | {
    "VOXROUTE_CLIENT_TOKENS"
}


def child_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of local services: this process's, and no downloads where none may be.

    Without what protects services that others reach: a local one is on a private socket. They are
    traced where the command is, each under its own name.
    """
    not_theirs = {*_PROTECTION, "OTEL_SERVICE_NAME"}
    child = {name: value for name, value in environment.items() if name not in not_theirs}
    child["VOXROUTE_MODEL_CACHE_DIR"] = str(settings.model_cache_dir.absolute())
    child |= {"VOXROUTE_TRACING": "true"} if settings.tracing else {}
    child |= {"VOXROUTE_LOG_TEXT": "true"} if settings.log_text else {}
    if settings.offline:
        child |= {"VOXROUTE_OFFLINE": "true", "HF_HUB_OFFLINE": "1"}
    return child


async def local_speech(
    settings: Settings,
    spec: JobSpec,
    chosen: routing.Candidate,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> LocalSpec:
    """The speech service to start. Raises UsageError, RefusedError for what it could not do."""
    from voxroute_orchestrator.models import at_hand, prechecks  # noqa: PLC0415 - as local_services

    engine = chosen.engine
    assert engine is not None  # noqa: S101 - it can be started

    def choose() -> at_hand.Choice:
        named = _absolute(spec.asr_model, settings) if spec.asr_model else ""
        choice = at_hand.choose(named, engine, chosen.device, settings)
        for model in choice.models:
            prechecks.check_speech(model, spec.source, engine, offline=settings.offline)
        return choice

    choice = await _chosen_models(choose, say, warn)
    arguments = ["--device", chosen.device]
    if spec.compute_type:
        arguments += ["--compute-type", spec.compute_type]
    if spec.batch_size:
        arguments += ["--max-batch", str(spec.batch_size)]
    for model in choice.models:
        arguments += ["--model", model]
    if spec.diarization_model and "--diarization-model" in engine.flags:
        arguments += ["--diarization-model", _absolute(spec.diarization_model, settings)]
    if (spec.times_words or spec.align) and "--align-models" in engine.flags:
        arguments += _aligning(settings, spec, bundled=choice.bundled)
    return LocalSpec(SPEECH, chosen.name, tuple(arguments), _named(choice.models))


def _aligning(settings: Settings, spec: JobSpec, *, bundled: bool) -> list[str]:
    """The flags for word times: downloads, or beside the bundled speech model its aligner."""
    if not (settings.offline or bundled):
        return ["--align-downloads", "true"]
    folder = bundled_models(settings)
    if spec.asr_model not in {"", BUNDLED_ASR} or folder is None:
        return []
    directory = folder / BUNDLED_ALIGN
    if not directory.is_dir():
        return []
    pairs = [f"{language}={directory}" for language in BUNDLED_ALIGN_LANGUAGES]
    return ["--align-models", ",".join(pairs)]


async def local_translation(
    settings: Settings,
    spec: JobSpec,
    chosen: routing.Candidate,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> LocalSpec:
    """The translation service to start. Raises UsageError, RefusedError, as above."""
    from voxroute_orchestrator.models import at_hand, prechecks  # noqa: PLC0415 - as local_services

    engine = chosen.engine
    assert engine is not None  # noqa: S101 - it can be started

    def choose() -> at_hand.Choice:
        named = _absolute(spec.translate_model, settings) if spec.translate_model else ""
        choice = at_hand.choose(named, engine, chosen.device, settings)
        pairs = tuple((spec.source, one) for one in spec.to_translate if spec.source)
        prechecks.check_translation(choice.models, pairs, offline=settings.offline)
        return choice

    choice = await _chosen_models(choose, say, warn)
    arguments = ("--models", ",".join(choice.models)) if choice.models else ()
    if spec.translate_device != "auto":
        arguments = (*arguments, "--device", spec.translate_device)
    return LocalSpec(TRANSLATION, chosen.name, arguments, _named(choice.models))


async def _chosen_models(
    choose: "Callable[[], Choice]", say: Callable[[str], None], warn: Callable[[str], None]
) -> "Choice":
    """What `choose` returns, which may wait for the hub, and what is to say of it said."""
    choice = await asyncio.to_thread(choose)
    if choice.said:
        (warn if choice.warns else say)(choice.said)
    return choice


def _named(models: Sequence[str]) -> str:
    return ", ".join(Path(model).name for model in models)


def _absolute(model: str, settings: Settings) -> str:
    """A local directory or a bundled model as an absolute path, any other name as it is."""
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path.resolve())
    folder = bundled_models(settings)
    if folder is not None and model in {BUNDLED_ASR, BUNDLED_TRANSLATE}:
        return str(folder / model)
    return model
