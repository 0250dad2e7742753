"""What a job needs of the services."""

from dataclasses import dataclass
from typing import Protocol

from voxroute_orchestrator.fleet import routing
from voxroute_orchestrator.spec import JobSpec


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job needs of its services."""

    spec: JobSpec
    speech: bool
    translation: bool
    only_asr_endpoints: bool = False
    """Whether the configured services were named for this job, so that no local one will do."""
    only_translate_endpoints: bool = False
    patience_s: float = 0.0
    """How long configured services may be away, where none that is left can do the job."""

    live: bool = False
    """Whether the speech is to be transcribed while it is spoken."""

    def wish(self) -> routing.Wish:
        """What routing needs to know of it."""
        spec = self.spec
        features: set[str] = {routing.WORD_TIMESTAMPS} if spec.times_words else set()
        if spec.source is None:
            features.add(routing.LANGUAGE_DETECTION)
        return routing.Wish(
            language=spec.source,
            model=spec.asr_model,
            features=frozenset(features),
            strict=spec.strict,
            live=self.live,
            backend=spec.backend,
            device=spec.device,
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
