"""What a job needs of the services."""

from dataclasses import dataclass
from typing import Protocol

from voxroute_orchestrator.fleet import routing


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job needs of its services."""

    speech: bool
    translation: bool
    language: str | None = None
    asr_model: str = ""
    translate_model: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    """Source and target of every translation, as far as they are known before."""
    words: bool = False
    align: bool = False
    """Whether a service is asked for word times once the transcript is there."""
    diarization_model: str = ""
    """For a speech service that is started here; "" for none."""
    strict: bool = False
    backend: str = "auto"
    """What a person asks for: "mlx", "whisperx" or "auto"; so for the devices."""
    device: str = "auto"
    translate_device: str = "auto"
    compute_type: str = ""
    """For a speech service that is started here; "" for its own choice."""
    batch_size: int = 0
    """As compute_type; 0 for its own choice."""
    only_asr_endpoints: bool = False
    """Whether the configured services were named for this job, so that no local one will do."""
    only_translate_endpoints: bool = False
    patience_s: float = 0.0
    """How long configured services may be away, where none that is left can do the job."""

    def wish(self) -> routing.Wish:
        """What routing needs to know of it."""
        features: set[str] = {routing.WORD_TIMESTAMPS} if self.words else set()
        if self.language is None:
            features.add(routing.LANGUAGE_DETECTION)
        return routing.Wish(
            language=self.language,
            model=self.asr_model,
            features=frozenset(features),
            strict=self.strict,
            backend=self.backend,
            device=self.device,
        )


class ObserveRoute(Protocol):
    """Counts decisions."""

    def __call__(
        self, work: routing.Work, decision: routing.Decision, /, *, fallback: bool = False
    ) -> None:
        """One was made; `fallback` is whether another service had the work before."""
        ...


def observe_nothing(
    work: routing.Work, decision: routing.Decision, /, *, fallback: bool = False
) -> None:
    """An ObserveRoute that counts nothing."""
    del work, decision, fallback
