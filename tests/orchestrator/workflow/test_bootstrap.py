"""Hardware detection and what is recommended for a host."""

import dataclasses
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.orchestrator.fleet.test_routing import (
    BROKEN_DRIVER,
    CPU_8_GB,
    GB,
    LAPTOP,
    M1_PRO,
    M1_PRO_WITHOUT_MLX,
    RTX_3090,
)
from voxroute_orchestrator.fleet import hardware
from voxroute_orchestrator.fleet.hardware import Host
from voxroute_orchestrator.workflow.bootstrap import (
    Availability,
    availability,
    bootstrap,
    recommend,
)
from voxroute_serving.device.nvidia import Gpu

ONLINE = Availability(hub=True)
NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("host", "model", "compute_type", "backend", "device"),
    [
        (M1_PRO, "large-v3", "float16", "mlx", "mps"),
        (dataclasses.replace(M1_PRO, memory_bytes=8 * GB), "medium", "float16", "mlx", "mps"),
        (M1_PRO_WITHOUT_MLX, "large-v3", "int8", "whisperx", "mps"),
        (RTX_3090, "large-v3", "float16", "whisperx", "cuda"),
        (dataclasses.replace(LAPTOP, gpus=(Gpu("6 GB", int(5.8 * GB)),)),
         "large-v3", "float16", "whisperx", "cuda"),
        (LAPTOP, "medium", "float16", "whisperx", "cuda"),
        (dataclasses.replace(LAPTOP, gpus=(Gpu("old", 2 * GB, GB),)),
         "base", "float16", "whisperx", "cuda"),
        (BROKEN_DRIVER, "large-v3", "int8", "whisperx", "cpu"),
        (dataclasses.replace(CPU_8_GB, memory_bytes=int(15.5 * GB), free_bytes=9 * GB),
         "large-v3", "int8", "whisperx", "cpu"),
        (CPU_8_GB, "medium", "int8", "whisperx", "cpu"),
        (dataclasses.replace(CPU_8_GB, memory_bytes=4 * GB, free_bytes=2 * GB),
         "base", "int8", "whisperx", "cpu"),
    ],
)  # fmt: skip
def test_the_rules_of_the_recommendation(
    host: Host, model: str, compute_type: str, backend: str, device: str
) -> None:
    """Model and type by the memory of the GPU, else of the host; backend by the accelerator."""
    best = recommend(host, ONLINE)
    assert (best.whisper_model, best.compute_type) == (model, compute_type)
    assert (best.whisper_backend, best.whisperx_device) == (backend, device)
    assert best.batch_size >= 1


def test_the_batch_follows_the_free_memory() -> None:
    """More free memory gives a larger batch, up to what the device can use; little gives 1."""
    sizes = [
        recommend(dataclasses.replace(RTX_3090, gpus=(Gpu("g", 24 * GB, n * GB),)), ONLINE)
        for n in (1, 5, 6, 23)
    ]
    assert [best.batch_size for best in sizes] == [1, 4, 4, 16]
    assert any("GB of memory are free" in note for note in sizes[0].notes)
    assert recommend(BROKEN_DRIVER, ONLINE).batch_size == 8


def test_without_network_and_cache_the_bundled_model_is_taken_and_said() -> None:
    """The cache comes first, the largest that fits; then the bundled model, with a note."""
    none = recommend(RTX_3090, Availability(hub=False))
    assert none.whisper_model == "asr-tiny-hi-en"
    assert none.translate_model == "translate-tiny-hi-en"
    assert any("bundled" in note and "large-v3 would fit" in note for note in none.notes)
    cached = Availability(hub=False, cached=frozenset({"medium", "base"}), translation=True)
    smaller = recommend(RTX_3090, cached)
    assert (smaller.whisper_model, smaller.translate_model) == ("medium", "")
    assert any("medium is used" in note for note in smaller.notes)


@pytest.mark.parametrize(
    ("host", "words"), [(BROKEN_DRIVER, "driver does not work"), (M1_PRO_WITHOUT_MLX, "MLX")]
)
def test_what_keeps_a_gpu_idle_is_said(host: Host, words: str) -> None:
    """A broken driver and a missing MLX are notes that say what to do."""
    (note,) = recommend(host, ONLINE).notes
    assert words in note
    assert "nstall" in note


def _smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_nvidia_smi_tells_names_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the driver's library is not there, the program's answer counts."""
    _smi(tmp_path, "echo 'NVIDIA GeForce RTX 3090, 24576, 23000'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(hardware, "shown_gpus", lambda: ((), ""))
    mib = 1024**2
    gpus, problem = hardware.nvidia_gpus()
    assert gpus == (Gpu("NVIDIA GeForce RTX 3090", 24576 * mib, 23000 * mib),)
    assert not problem


def test_a_broken_driver_is_a_problem_not_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nvidia-smi says of its failure is told; there is no GPU to use."""
    _smi(tmp_path, "echo 'NVIDIA-SMI has failed: no communication with the driver'; exit 9")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(hardware, "shown_gpus", lambda: ((), ""))
    gpus, problem = hardware.nvidia_gpus()
    assert gpus == ()
    assert "no communication with the driver" in problem


def test_this_host_is_detected_without_a_framework() -> None:
    """Detection says something sensible of this machine, and imports no ML framework."""
    found = hardware.with_memory(hardware.detect())
    assert found.cpus >= 1
    assert found.memory_bytes > found.free_bytes > 0
    code = (
        "import sys; from voxroute_orchestrator.workflow import bootstrap; bootstrap.detect();"
        "print([m for m in ('torch', 'mlx', 'transformers', 'ctranslate2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_cache_holds_what_programs_read(tmp_path: Path) -> None:
    """The documented keys are there, and a second call reads them back."""
    first = bootstrap(tmp_path, NOWHERE)
    facts = json.loads((tmp_path / "hardware_cache.json").read_text())
    assert {"gpu_type", "gpu_name", "gpu_memory_gb", "detected_at", "schema"} <= facts.keys()
    assert {"whisper_model", "compute_type", "batch_size", "whisper_backend"} <= facts[
        "recommended_settings"
    ].keys()
    assert not facts["hub_reachable"]
    facts["hub_reachable"] = True
    facts["detected_at"] = (datetime.now(UTC) - timedelta(days=6)).isoformat()
    (tmp_path / "hardware_cache.json").write_text(json.dumps(facts))
    second = bootstrap(tmp_path, NOWHERE)
    assert (first.fresh, second.fresh) == (True, False)
    assert second.recommended == first.recommended


@pytest.mark.parametrize("how", ["old", "no hub", "other host", "other schema", "damaged", "asked"])
def test_a_stale_cache_is_made_again(how: str, tmp_path: Path) -> None:
    """Age, another host, another version and damage make it stale; so does asking."""
    bootstrap(tmp_path, NOWHERE)
    path = tmp_path / "hardware_cache.json"
    facts = json.loads(path.read_text())
    if how == "no hub":  # minutes later the network may be back
        facts["detected_at"] = (datetime.now(UTC) - timedelta(minutes=11)).isoformat()
    elif how == "old":
        facts["hub_reachable"] = True
        facts["detected_at"] = (datetime.now(UTC) - timedelta(days=8)).isoformat()
    elif how == "other host":
        facts["host"]["nvidia_driver"] = "another"
    elif how == "other schema":
        facts["schema"] = "voxroute.hardware/0"
    path.write_text("{" if how == "damaged" else json.dumps(facts))
    assert bootstrap(tmp_path, NOWHERE, refresh=how == "asked").fresh
    assert json.loads(path.read_text())["schema"] == "voxroute.hardware/1"


def test_the_hubs_cache_tells_which_models_are_here(tmp_path: Path) -> None:
    """Only downloads with a snapshot count, under the names that people use."""
    for name in ("models--Systran--faster-whisper-medium", "models--facebook--m2m100_418M"):
        (tmp_path / name / "snapshots" / "abc").mkdir(parents=True)
    (tmp_path / "models--Systran--faster-whisper-large-v3" / "snapshots").mkdir(parents=True)
    found = availability(NOWHERE | {"HF_HUB_CACHE": str(tmp_path)}, offline=False, bundled=True)
    assert found.cached == frozenset({"medium"})
    assert found.translation
    assert not found.hub
