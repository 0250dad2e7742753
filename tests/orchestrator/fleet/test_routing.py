"""Routing: a table of hosts and services, and what is chosen for them."""

import dataclasses

import pytest

from voxroute_asr_mlx import ENGINE as MLX
from voxroute_asr_whisperx import ENGINE as WHISPERX
from voxroute_orchestrator.fleet import routing
from voxroute_orchestrator.fleet.hardware import Host
from voxroute_orchestrator.fleet.routing import Offer, Wish
from voxroute_serving.device.nvidia import Gpu
from voxroute_serving.languages import match_language
from voxroute_serving.manifest import Engine
from voxroute_translate import ENGINE as TRANSLATE

GB = 1024**3
ASR_MLX, ASR_WHISPERX = MLX.module, WHISPERX.module
ALL = (MLX, WHISPERX, TRANSLATE)
BUT_MLX = (WHISPERX, TRANSLATE)
M1_PRO = Host("Darwin", "arm64", 10, 16 * GB, 9 * GB, engines=ALL, chip="Apple M1 Pro")
M1_PRO_WITHOUT_MLX = dataclasses.replace(M1_PRO, engines=BUT_MLX)
CPU_8_GB = Host("Linux", "x86_64", 4, 8 * GB, 5 * GB, engines=BUT_MLX)
RTX_3090 = Host(
    "Linux", "x86_64", 16, 64 * GB, 50 * GB, (Gpu("NVIDIA GeForce RTX 3090", 24 * GB, 23 * GB),),
    engines=ALL,
)  # fmt: skip
LAPTOP = Host(
    "Linux", "x86_64", 8, 16 * GB, 9 * GB, (Gpu("NVIDIA GTX 1650", 4 * GB, 3 * GB),), engines=ALL
)
BROKEN_DRIVER = Host(
    "Linux", "x86_64", 8, 32 * GB, 20 * GB, gpu_problem="the NVIDIA driver does not work (999)",
    engines=ALL,
)  # fmt: skip
CPU_WITH_MLX = dataclasses.replace(CPU_8_GB, engines=ALL)
BARE = dataclasses.replace(CPU_8_GB, engines=())
HINDI = Wish(language="hi")


def _offer(target: str, device: str = "cpu", load: int = 0, **more: object) -> Offer:
    return Offer(target, device=device, calls_in_flight=load, calls_capacity=4, **more)  # type: ignore[arg-type]


REMOTE_CUDA = _offer("gpu-host:50051", "cuda", engine="whisperx")
REMOTE_CPU = _offer("cpu-host:50051", engine="whisperx")
REMOTE_MLX = _offer("mac-mini:50052", "mps", engine="mlx-whisper")
OWN_MLX = _offer("127.0.0.1:50052", "mps", engine="mlx-whisper")
DOWN = Offer("gpu-host:50051", error="cannot be reached (connection refused)")
DRAINING = dataclasses.replace(REMOTE_CUDA, error="it is loading or draining")
ENGLISH_ONLY = dataclasses.replace(REMOTE_CUDA, languages=("en",))


@pytest.mark.parametrize("tag", ["nb", "zh-TW", "zh-Hant-HK", "cmn", "no", "zh"])
def test_a_language_is_taken_by_whom_its_service_would_take_it(tag: str) -> None:
    """Routing and the service read a tag by one rule: neither refuses what the other takes."""
    offer = _offer("gpu-host:50051", "cuda", languages=("no", "zh"))
    assert match_language(tag, offer.languages) is not None
    decision = routing.route_speech(BARE, [offer], Wish(language=tag))
    assert decision.chosen is not None
    refused = routing.route_speech(BARE, [offer], Wish(language="hi"))
    assert refused.chosen is None


@pytest.mark.parametrize(
    ("host", "offers", "expected"),
    [
        # no service configured: the host decides
        (M1_PRO, [], (ASR_MLX, "mps")),
        (M1_PRO_WITHOUT_MLX, [], (ASR_WHISPERX, "cpu")),
        (RTX_3090, [], (ASR_WHISPERX, "cuda")),
        (LAPTOP, [], (ASR_WHISPERX, "cuda")),
        (BROKEN_DRIVER, [], (ASR_WHISPERX, "cpu")),
        (CPU_8_GB, [], (ASR_WHISPERX, "cpu")),
        (CPU_WITH_MLX, [], (ASR_WHISPERX, "cpu")),
        # a Mac beside a remote CUDA service: its own GPU first, if MLX is there
        (M1_PRO, [REMOTE_CUDA], (ASR_MLX, "mps")),
        (M1_PRO, [REMOTE_CUDA, OWN_MLX], ("127.0.0.1:50052", "mps")),
        (M1_PRO_WITHOUT_MLX, [REMOTE_CUDA], ("gpu-host:50051", "cuda")),
        # a remote GPU before any CPU
        (CPU_8_GB, [REMOTE_CPU, REMOTE_CUDA], ("gpu-host:50051", "cuda")),
        (CPU_8_GB, [REMOTE_CPU, REMOTE_MLX], ("mac-mini:50052", "mps")),
        (BROKEN_DRIVER, [REMOTE_CUDA], ("gpu-host:50051", "cuda")),
        # a CPU service that runs before one that would have to be started
        (CPU_8_GB, [REMOTE_CPU], ("cpu-host:50051", "cpu")),
        (CPU_8_GB, [dataclasses.replace(REMOTE_CPU, calls_in_flight=3)], ("cpu-host:50051", "cpu")),
        (CPU_8_GB, [dataclasses.replace(REMOTE_CPU, calls_in_flight=4)], (ASR_WHISPERX, "cpu")),
        # down, draining, without the language: the next one
        (CPU_8_GB, [DOWN, REMOTE_CPU], ("cpu-host:50051", "cpu")),
        (CPU_8_GB, [DRAINING], (ASR_WHISPERX, "cpu")),
        (M1_PRO_WITHOUT_MLX, [ENGLISH_ONLY, REMOTE_MLX], ("mac-mini:50052", "mps")),
        (RTX_3090, [DOWN], (ASR_WHISPERX, "cuda")),
    ],
)
def test_the_host_and_the_services_decide(
    host: Host, offers: list[Offer], expected: tuple[str, str]
) -> None:
    """The host's own accelerator, then a remote GPU, then a CPU; only what serves the language."""
    decision = routing.route_speech(host, offers, HINDI)
    chosen = decision.chosen
    assert chosen is not None
    assert (chosen.name, chosen.device) == expected
    assert len(decision.candidates) == len(offers) + 3
    assert all(candidate.reason for candidate in decision.candidates)
    assert len(decision.explain()) == len(decision.candidates)


@pytest.mark.parametrize(
    ("host", "installed", "expected"),
    [
        (M1_PRO, BUT_MLX, (ASR_WHISPERX, "cpu")),
        (RTX_3090, (MLX,), None),
        (CPU_8_GB, (), None),
    ],
)
def test_what_is_not_installed_is_not_started(
    host: Host, installed: tuple[Engine, ...], expected: tuple[str, str] | None
) -> None:
    """A local service needs its package."""
    chosen = routing.route_speech(dataclasses.replace(host, engines=installed), [], HINDI).chosen
    assert (chosen and (chosen.name, chosen.device)) == expected


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(backend="whisperx"), "gpu-host:50051"),
        (Wish(backend="mlx"), ASR_MLX),
        (Wish(device="cpu"), "cpu-host:50051"),
        (Wish(device="cuda"), "gpu-host:50051"),
        (Wish(backend="whisperx", device="mps"), None),
    ],
)
def test_backend_and_device_override_the_host(wish: Wish, expected: str | None) -> None:
    """What a person asks for is taken, or nothing with the reasons."""
    decision = routing.route_speech(M1_PRO, [REMOTE_CUDA, REMOTE_CPU], wish)
    assert (decision.chosen and decision.chosen.name) == expected
    if expected is None:
        assert "is asked for" in decision.why_not()


def test_mlx_runs_on_any_cpu_for_whoever_asks_for_it() -> None:
    """--backend mlx starts MLX on a Linux CPU; nobody gets that unasked."""
    chosen = routing.route_speech(CPU_WITH_MLX, [], Wish(backend="mlx")).chosen
    assert chosen is not None
    assert (chosen.name, chosen.device) == (ASR_MLX, "cpu")
    assert routing.route_speech(CPU_8_GB, [], Wish(backend="mlx")).chosen is None


def test_named_endpoints_are_the_only_candidates() -> None:
    """Where the services were named for the job, no local one takes their place."""
    decision = routing.route_speech(CPU_8_GB, [DOWN], HINDI, may_start=False)
    assert decision.chosen is None
    assert "connection refused" in decision.why_not()


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (M1_PRO_WITHOUT_MLX, "voxroute-asr-mlx is not installed"),
        (CPU_8_GB, "no NVIDIA GPU"),
        (BROKEN_DRIVER, "the NVIDIA driver does not work"),
    ],
)
def test_the_cpu_comes_with_a_warning_that_says_how_to_do_better(host: Host, words: str) -> None:
    """Whoever gets the CPU without asking is told why, and what would be faster."""
    (warning,) = routing.route_speech(host, [], HINDI).warnings
    assert words in warning
    assert not routing.route_speech(host, [], Wish(device="cpu")).warnings


def test_a_service_that_has_the_model_is_preferred() -> None:
    """A request for a model goes where it needs no download, whatever the device."""
    offers = [REMOTE_CUDA, dataclasses.replace(REMOTE_CPU, models=("large-v3",))]
    wish = Wish(language="hi", model="large-v3")
    decision = routing.route_speech(BARE, offers, wish)
    assert [c.name for c in decision.ranked] == ["cpu-host:50051", "gpu-host:50051"]
    assert "does not have large-v3" in decision.ranked[1].reason


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"calls_in_flight": 4}, {"calls_in_flight": 1}),  # a full one is the last
        ({"calls_in_flight": 3}, {"calls_in_flight": 1}),
        ({"work_queued": 9}, {"work_queued": 1}),
        ({"real_time_factor": 0.5}, {"real_time_factor": 0.05}),
        ({"features": frozenset[str]()}, {}),
        ({"features": frozenset({"word_timestamps"}), "alignable_languages": ("en",)}, {}),
    ],
)
def test_of_equal_devices_the_better_one_is_taken(
    first: dict[str, object], second: dict[str, object]
) -> None:
    """Free places, queue, measured speed and features decide between two CUDA services."""
    able = {"features": frozenset({"word_timestamps"}), "alignable_languages": ("hi",)}
    offers = [_offer("a:1", "cuda"), _offer("b:1", "cuda")]
    offers[0] = dataclasses.replace(offers[0], **(able | first))  # type: ignore[arg-type]
    offers[1] = dataclasses.replace(offers[1], **(able | second))  # type: ignore[arg-type]
    wish = Wish(language="hi", features=frozenset({"word_timestamps"}))
    decision = routing.route_speech(BARE, offers, wish)
    assert [c.name for c in decision.ranked] == ["b:1", "a:1"]


def test_strict_leaves_out_what_lacks_a_feature() -> None:
    """With strict options a service without word timestamps is no candidate."""
    wish = Wish(language="hi", features=frozenset({"word_timestamps"}), strict=True)
    offer = dataclasses.replace(REMOTE_CUDA, features=frozenset())
    decision = routing.route_speech(BARE, [offer], wish)
    assert decision.chosen is None
    assert "word_timestamps" in decision.why_not()


def test_the_translation_follows_the_same_rules() -> None:
    """The host's device for a local service, a remote GPU before a CPU, never what is not there."""
    chosen = routing.route_translation(RTX_3090, []).chosen
    assert chosen is not None
    assert chosen.device == "cuda"
    remote = routing.route_translation(CPU_8_GB, [_offer("gpu-host:50053", "cuda")]).chosen
    assert remote is not None
    assert remote.name == "gpu-host:50053"
    assert routing.route_translation(BARE, []).chosen is None
    for device in ("cuda", "mps"):
        refused = routing.route_translation(BROKEN_DRIVER, [], device=device)
        assert refused.chosen is None
    assert "does not work" in routing.route_translation(BROKEN_DRIVER, [], device="cuda").why_not()
