"""Which service does the work: pure functions from facts to a decision with its reasons."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from voxroute_orchestrator.engines import OURS, TRANSLATE, name_of
from voxroute_orchestrator.fleet.hardware import Host
from voxroute_orchestrator.transcript import is_among
from voxroute_serving.manifest import Engine

WORD_TIMESTAMPS = "word_timestamps"
LANGUAGE_DETECTION = "language_detection"
LIVE = "live"

_ON_THIS_HOST, _REMOTE_GPU, _CPU = range(3)


Work = Literal["asr", "align", "diarize", "translate"]
"""What a service is chosen for."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to do the work, whether it can be taken, and why or why not."""

    name: str
    """The module of a local service, or the address of a configured one."""
    device: str
    """"cpu", "cuda", "mps"; "" where it is not known."""
    usable: bool
    reason: str
    local: bool = True
    """Whether it would have to be started here."""
    engine: Engine | None = None
    """Of a local service that can be started."""

    def __str__(self) -> str:
        return f"{self.name} on {self.device}" if self.local else self.name


@dataclass(frozen=True, slots=True)
class Decision:
    """Which of the candidates can do the work, the best first; and why the others cannot."""

    ranked: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    """All of them, in the order in which they were looked at."""
    warnings: tuple[str, ...] = ()

    @property
    def chosen(self) -> Candidate | None:
        """The best one; None where none is usable."""
        return self.ranked[0] if self.ranked else None

    def why_not(self) -> str:
        """The reasons against every candidate, as one sentence for a person."""
        return "; ".join(f"{c}: {c.reason}" for c in self.candidates if not c.usable)

    def explain(self) -> list[str]:
        """A line for each candidate, the best first, with its place and its reason."""
        lines = [
            f"{'-> ' if place == 1 else '   '}{place}. {candidate}: {candidate.reason}"
            for place, candidate in enumerate(self.ranked, 1)
        ]
        return [*lines, *(f"    x  {c}: {c.reason}" for c in self.candidates if not c.usable)]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a configured service says of itself, or why it says nothing."""

    target: str
    error: str | None = None
    engine: str = ""
    device: str = ""
    languages: tuple[str, ...] = ()
    """Languages that its default model takes; empty where it does not say."""
    alignable_languages: tuple[str, ...] = ()
    features: frozenset[str] | None = None
    """Names of the contract's features in lower case; None where it does not say."""
    models: tuple[str, ...] = ()
    """Ids of the models that need no download."""
    calls_in_flight: int = 0
    calls_capacity: int = 0
    work_queued: int = 0
    real_time_factor: float | None = None
    """Inference seconds for each second of speech; None before its first call."""

    @property
    def on_this_host(self) -> bool:
        """Whether its address is one of this host alone."""
        host = self.target.removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("dns:")
        names = ("unix:", "127.", "localhost:", "[::1]:")
        return host.strip("/").startswith(names)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a job asks of a speech service; "auto" and "" leave it to routing."""

    language: str | None = None
    model: str = ""
    features: frozenset[str] = frozenset()
    strict: bool = False
    """Whether a service without a feature is out, rather than behind the others."""
    live: bool = False
    """Whether the speech is to be transcribed while it is spoken, which older services cannot."""
    backend: str = "auto"
    """The name of an engine."""
    device: str = "auto"
    """ "mps", "cuda" or "cpu"."""


@dataclass(frozen=True, slots=True, order=True)
class _Rank:
    """How candidates compare, the smaller the better; the fields in the order of their weight."""

    lacks_model: bool
    full: bool
    lacks_features: int
    tier: int
    load: float
    real_time_factor: float
    order: int


@dataclass(slots=True)
class _Ranking:
    """Candidates with their ranks, as they are looked at."""

    candidates: list[Candidate] = field(default_factory=list[Candidate])
    ranks: list[tuple[_Rank, Candidate]] = field(default_factory=list[tuple[_Rank, Candidate]])

    def decision(self, warnings: tuple[str, ...] = ()) -> Decision:
        best = [candidate for _, candidate in sorted(self.ranks, key=lambda pair: pair[0])]
        return Decision(tuple(best), tuple(self.candidates), warnings)


def route_speech(
    host: Host,
    offers: Sequence[Offer],
    wish: Wish,
    *,
    may_start: bool = True,
) -> Decision:
    """The services that can recognise the speech of a job, the best first.

    Out are those that are down or draining, do not take the language, or are not what `wish` names
    a backend or a device for. The others in this order of weight: has the model; has a free place;
    has the features; runs on this host's own accelerator, then on any other GPU, then on a CPU;
    least busy; fastest as measured; running before yet to be started, as configured.
    `may_start` is whether a local service may be started.
    """
    ranking = _Ranking()
    for offer in offers:
        _rank_offer(ranking, host, offer, wish)
    if may_start:
        for candidate in _local_speech(host, wish):
            _rank_local(ranking, candidate)
    decision = ranking.decision()
    chosen = decision.chosen
    if chosen is None or not chosen.local or chosen.device != "cpu" or wish.device == "cpu":
        return decision
    return ranking.decision((_cpu_warning(host, decision.candidates),))


def _rank_offer(ranking: _Ranking, host: Host, offer: Offer, wish: Wish) -> None:
    against = _objection(offer, wish)
    missing = _missing_features(offer, wish)
    if against is None and missing and wish.strict:
        against = f"it has no {' and no '.join(missing)}"
    lacks_model = bool(wish.model) and wish.model not in offer.models
    full = offer.calls_capacity > 0 and offer.calls_in_flight >= offer.calls_capacity
    gpu = offer.device in {"cuda", "mps"}
    own = gpu and offer.on_this_host and offer.device == host.accelerator
    candidate = Candidate(
        offer.target,
        offer.device,
        against is None,
        against or _merits(offer, wish, missing, own=own),
        local=False,
    )
    ranking.candidates.append(candidate)
    if against is None:
        load = (offer.calls_in_flight + offer.work_queued) / max(1, offer.calls_capacity)
        tier = _ON_THIS_HOST if own else _REMOTE_GPU if gpu else _CPU
        speed = offer.real_time_factor if offer.real_time_factor is not None else 1.0
        order = len(ranking.candidates)
        rank = _Rank(lacks_model, full, len(missing), tier, load, speed, order)
        ranking.ranks.append((rank, candidate))


def _merits(offer: Offer, wish: Wish, missing: list[str], *, own: bool) -> str:
    """What speaks for and against a usable service, as a sentence for a person."""
    parts = [
        (
            f"{offer.engine or 'answers'} on {offer.device or 'an unknown device'}"
            f"{' of this host' if own else ''}"
        ),
        f"{offer.calls_in_flight} of {offer.calls_capacity} places taken",
    ]
    if offer.work_queued:
        parts.append(f"{offer.work_queued} windows wait")
    if offer.real_time_factor is not None:
        parts.append(f"real-time factor {offer.real_time_factor:.2f}")
    if wish.model:
        parts.append(f"{'has' if wish.model in offer.models else 'does not have'} {wish.model}")
    parts += [f"no {feature}" for feature in missing]
    return ", ".join(parts)


def _missing_features(offer: Offer, wish: Wish) -> list[str]:
    if offer.features is None:
        return []
    missing = sorted(wish.features - offer.features)
    if WORD_TIMESTAMPS in wish.features and WORD_TIMESTAMPS not in missing and wish.language:
        alignable = offer.alignable_languages
        if not is_among(wish.language, alignable):
            missing.append(f"{WORD_TIMESTAMPS} for {wish.language}")
    return missing


def _objection(offer: Offer, wish: Wish) -> str | None:
    if offer.error is not None:
        return offer.error
    if wish.backend != "auto" and not offer.engine.startswith(wish.backend):
        return f"{wish.backend} is asked for, and this is {offer.engine or 'another engine'}"
    if wish.live and LIVE not in (offer.features or ()):
        return "it cannot transcribe speech while it is spoken; a newer version can"
    if wish.device not in ("auto", offer.device):
        return f"{wish.device} is asked for, and this runs on {offer.device or 'something else'}"
    if wish.language and offer.languages and not wish.model:
        spoken = is_among(wish.language, offer.languages)
        if not spoken:
            return f"its model does not take {wish.language}, only {', '.join(offer.languages)}"
    return None


def _rank_local(ranking: _Ranking, candidate: Candidate) -> None:
    ranking.candidates.append(candidate)
    if candidate.usable:
        tier = _CPU if candidate.device == "cpu" else _ON_THIS_HOST
        # behind one that runs already and has a place: it would have to load
        order = 1_000 + len(ranking.candidates)
        rank = _Rank(
            lacks_model=False,
            full=False,
            lacks_features=0,
            tier=tier,
            load=1.0,
            real_time_factor=1.0,
            order=order,
        )
        ranking.ranks.append((rank, candidate))


def _local_speech(host: Host, wish: Wish) -> list[Candidate]:
    """The services that could be started here, whether they can, and why not."""
    found: list[Candidate] = []
    for device, ours in OURS.items():
        engines = [e for e in host.engines if e.kind == "asr" and device in e.devices]
        if all(engine.module != ours for engine in engines):
            found.append(_local(host, device, ours, None, wish))
        found += [_local(host, device, engine.module, engine, wish) for engine in engines]
        if not any(c.usable for c in found):  # for whoever asks for it: nobody gets it unasked
            found += [
                _local(host, device, engine.module, engine, wish)
                for engine in host.engines
                if engine.name == wish.backend and device in engine.on_request
            ]
    return found


def local_cpu(host: Host, kind: Literal["asr", "translate"]) -> Candidate | None:
    """The local service on the CPU, the last resort; None where none is installed."""
    engine = host.engine(kind, "cpu")
    return None if engine is None else _local(host, "cpu", engine.module, engine, Wish())


def _local(host: Host, device: str, module: str, engine: Engine | None, wish: Wish) -> Candidate:
    """A service that could be started here; not usable where a person asks for something else."""
    name = engine.name if engine is not None else name_of(module)
    against = None
    if wish.backend not in {"auto", name}:
        against = f"{wish.backend} is asked for, and this is {name}"
    elif wish.device not in {"auto", device}:
        against = f"{wish.device} is asked for, and this is {device}"
    elif device == "mps" and not host.mps:
        against = "no Apple GPU"
    elif device == "cuda" and not host.cuda:
        against = host.gpu_problem or "no NVIDIA GPU with a driver"
    elif engine is None:
        against = f"{module.replace('_', '-')} is not installed, or not all of it"
    merits = {
        "mps": f"{host.chip or 'the Apple GPU'} through Metal",
        "cuda": "an NVIDIA GPU through CUDA",
        "cpu": f"{host.cpus} CPUs",
    }
    return Candidate(module, device, against is None, against or merits[device], engine=engine)


def _cpu_warning(host: Host, candidates: Sequence[Candidate]) -> str:
    slow = "speech is recognised on the CPU, which is slow with large models"
    if host.mps:
        gpu = next(c for c in candidates if c.local and c.device == "mps")
        return f"{slow}: {gpu.reason}"
    lack = host.gpu_problem or "this host has no NVIDIA GPU with a driver"
    return (
        f"{slow}: {lack}; a service on a host that has a GPU can be named with --asr-endpoint"
        " HOST:PORT"
    )


def route_translation(
    host: Host,
    offers: Sequence[Offer],
    *,
    model: str = "",
    device: str = "auto",
    may_start: bool = True,
) -> Decision:
    """The services that can translate, the best first; ranked as speech services are.

    A service that is started here picks its own device, so CUDA, then Metal, then CPU, unless
    `device` names one.
    """
    ranking = _Ranking()
    wish = Wish(model=model, device=device)
    for offer in offers:
        _rank_offer(ranking, host, offer, wish)
    if may_start:
        devices = (host.accelerator, "cpu") if device == "auto" else (device,)
        engine = host.engine("translate", *devices)
        kind = next(one for one in devices if engine is None or one in engine.devices)
        module = TRANSLATE if engine is None else engine.module
        _rank_local(ranking, _local(host, kind, module, engine, wish))
    return ranking.decision()
