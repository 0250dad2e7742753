"""`voxroute models`: fetching from a hub over HTTP, what is here, removing, converting."""

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import forking
from tests.serving import fake_service
from tests.serving.hub_stand_in import COMMIT, TOKEN, Hub, hub_server
from voxroute_asr_mlx import ENGINE as MLX
from voxroute_orchestrator.errors import RefusedError
from voxroute_orchestrator.models import conversion
from voxroute_orchestrator.models import hub as hub_models
from voxroute_translate import ENGINE as TRANSLATE

ROOT = Path(__file__).resolve().parents[3]
BUNDLED = ROOT / "models" / "asr-tiny-hi-en"
CHUNK_BYTES = 10 * 2**20  # huggingface_hub writes so much at once
LARGE = hashlib.shake_256(b"weights").digest(2 * CHUNK_BYTES + 5_000)
MODEL = {
    "config.json": b'{"model_type": "whisper"}',
    "model.bin": LARGE,
    "tokenizer.json": b"{}",
    "flax_model.msgpack": b"not wanted",
}


@dataclass
class Shell:
    """The command with a hub, and folders of its own for the hub's cache and the services'."""

    hub: Hub
    folder: Path

    def run(self, *arguments: str, **more: str) -> forking.Done:
        """The command's end."""
        environment = self.hub.environment(
            self.folder / "hf", VOXROUTE_MODEL_CACHE_DIR=str(self.folder / "cache"), **more
        )
        return forking.run(
            "voxroute_orchestrator",
            "models",
            *arguments,
            environment=environment,
            folder=self.folder,
            timeout=200,
        )

    def listed(self, *arguments: str) -> dict[str, Any]:
        """What `list` gives as JSON."""
        done = self.run("list", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def blobs(self) -> list[str]:
        """What the hub's library keeps of the model, by size and suffix."""
        folder = self.folder / "hf" / "hub" / "models--shop--whisper" / "blobs"
        return sorted(f"{path.stat().st_size}{path.suffix}" for path in folder.glob("*"))


@pytest.fixture
def shell(tmp_path: Path) -> Generator[Shell]:
    """A hub with a model in CTranslate2's format, and nothing on this host."""
    with hub_server() as hub:
        hub.models["shop/whisper"] = MODEL
        yield Shell(hub, tmp_path)


@pytest.mark.slow
def test_a_model_is_pulled_listed_and_removed(shell: Shell) -> None:
    """Only the files that a service reads; a second pull fetches nothing; removing frees all."""
    done = shell.run("pull", "shop/whisper")
    assert done.returncode == 0, done.stderr
    directory = Path(done.stdout.strip())
    assert sorted(path.name for path in directory.iterdir()) == [
        "config.json",
        "model.bin",
        "tokenizer.json",
    ]
    assert (directory / "model.bin").read_bytes() == LARGE
    assert "model.bin (2 of 3, 21 MB)" in done.stderr
    assert shell.hub.asked == ["config.json", "model.bin", "tokenizer.json"]

    again = shell.run("pull", "shop/whisper", "-q")
    assert (again.stdout, again.stderr) == (done.stdout, "")
    assert len(shell.hub.asked) == 3

    converted = shell.folder / "cache" / "converted" / f"ctranslate2-{COMMIT}"
    converted.mkdir(parents=True)
    (converted / "model.bin").write_bytes(b"x" * 1000)
    by_kind = {model["kind"]: model for model in shell.listed()["models"]}
    assert by_kind["hub"]["name"] == "shop/whisper"
    assert by_kind["hub"]["revision"] == COMMIT
    assert by_kind["hub"]["bytes"] > len(LARGE)
    assert by_kind["converted"]["source"] == "shop/whisper"
    assert by_kind["converted"]["bytes"] == 1000
    assert by_kind["bundled"]["last_used"]

    kept = shell.run("rm", "shop/whisper")
    assert kept.returncode == 1  # nobody answers the question
    assert converted.is_dir()
    removed = shell.run("rm", "shop/whisper", "--yes")
    assert removed.stdout == "21 MB freed\n", removed.stderr
    assert {model["kind"] for model in shell.listed()["models"]} == {"bundled"}
    assert not converted.exists()
    gone = shell.run("rm", "shop/whisper", "--yes")
    assert gone.returncode == 2
    assert "no model 'shop/whisper'" in gone.stderr


def test_a_pull_that_was_cut_off_goes_on_where_it_stopped(shell: Shell) -> None:
    """What has come is kept, and only the rest is asked for."""
    shell.hub.cut_at = CHUNK_BYTES + 1000
    cut = shell.run("pull", "shop/whisper")
    assert cut.returncode == 4
    assert "run this again to go on where it stopped" in cut.stderr
    assert f"{CHUNK_BYTES}.incomplete" in shell.blobs()
    done = shell.run("pull", "shop/whisper")
    assert done.returncode == 0, done.stderr
    assert f"model.bin bytes={CHUNK_BYTES}-" in shell.hub.asked
    assert (Path(done.stdout.strip()) / "model.bin").read_bytes() == LARGE


@pytest.mark.slow
def test_offline_nothing_is_fetched_and_what_is_missing_is_named(shell: Shell) -> None:
    """Nothing of a model, half of it, all of it; by flag and by variable."""
    nothing = shell.run("pull", "shop/whisper", "--offline")
    assert nothing.returncode == 2
    assert "is not on this host and nothing may be fetched" in nothing.stderr
    shell.hub.cut_at = CHUNK_BYTES + 1000
    assert shell.run("pull", "shop/whisper").returncode == 4
    before = list(shell.hub.asked)
    half = shell.run("pull", "shop/whisper", VOXROUTE_OFFLINE="1")
    assert half.returncode == 2
    assert "without weights (1 half fetched)" in half.stderr
    assert shell.hub.asked == before
    done = shell.run("pull", "shop/whisper")
    assert shell.run("pull", "shop/whisper", "--offline").stdout == done.stdout


@pytest.mark.slow
def test_a_file_that_is_not_the_hubs_is_removed_and_fetched_anew(shell: Shell) -> None:
    """Its size is right and its checksum is not; so too for what was spoilt on the disk later."""
    shell.hub.spoil = True
    spoilt = shell.run("pull", "shop/whisper")
    assert spoilt.returncode == 6
    assert "model.bin of shop/whisper is damaged" in spoilt.stderr
    assert str(len(LARGE)) not in shell.blobs()
    shell.hub.spoil = False
    done = shell.run("pull", "shop/whisper")
    assert done.returncode == 0, done.stderr

    config = Path(done.stdout.strip()) / "config.json"
    config.resolve().write_bytes(config.read_bytes()[:-1] + b" ")
    assert "config.json of shop/whisper is damaged" in shell.run("pull", "shop/whisper").stderr


def test_a_gated_model_says_exactly_what_to_do(shell: Shell) -> None:
    """Where the licence is, where tokens are made, how to give one, and to run this again."""
    gated = shell.run("pull", "shop/gated")
    address = shell.hub.address
    assert gated.returncode == 5
    assert gated.stderr.splitlines()[-1] == (
        f"voxroute: the model shop/gated is gated: accept its licence at {address}/shop/gated,"
        f" create a token at {address}/settings/tokens and set HF_TOKEN to it or run"
        " `hf auth login`, then run this again"
    )


@pytest.mark.slow
def test_what_cannot_be_had_is_told_with_what_to_do(shell: Shell) -> None:
    """Unknown names, a hub that fails; with the right token a gated model comes."""
    assert shell.run("pull", "shop/gated", HF_TOKEN=TOKEN).returncode == 0
    for name, code, words in (
        ("shop/nothing", 2, "the hub has no model shop/nothing"),
        ("shop/broken", 4, "the hub did not give the model"),
        ("no-such-name", 2, "well-known names are tiny,"),
    ):
        done = shell.run("pull", name)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_the_models_of_running_services_are_listed(shell: Shell) -> None:
    """With their state; a service that does not answer is named with the reason."""
    with fake_service.running(shell.folder) as service:
        found = shell.listed(
            "--asr-endpoint", service.address, "--translate-endpoint", "127.0.0.1:9"
        )
    by_model = {model["model"]: model for model in found["services"]}
    assert by_model["tones"]["state"] == "loaded"
    assert by_model["tones"]["idle_s"] >= 0
    assert by_model["more-tones"]["state"] == "available"
    assert by_model[""]["service"] == "127.0.0.1:9"
    assert "cannot be reached" in by_model[""]["error"]


@pytest.mark.slow
@pytest.mark.parametrize(("to", "made"), [("ctranslate2", "model.bin"), ("mlx", "config.json")])
def test_a_conversion_lies_where_the_service_looks_for_it(shell: Shell, to: str, made: str) -> None:
    """The bundled model by its name; the second time nothing is done."""
    done = shell.run("convert", "asr-tiny-hi-en", "--to", to)
    assert done.returncode == 0, done.stderr
    directory = Path(done.stdout.strip())
    assert (directory / made).is_file()
    assert directory.parent == shell.folder / "cache" / "converted"
    before = directory.stat().st_mtime_ns
    assert shell.run("convert", str(BUNDLED), "--to", to).stdout == done.stdout
    assert directory.stat().st_mtime_ns == before
    (converted,) = (model for model in shell.listed()["models"] if model["kind"] == "converted")
    assert converted["source"] == "asr-tiny-hi-en"
    assert "already" in shell.run("convert", str(directory), "--to", to).stderr


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.bin", "config.json", "a.onnx"], ["config.json", "model.bin"]),
        (
            ["model.safetensors", "model.fp32-00001-of-00002.safetensors", "pytorch_model.bin"],
            ["model.safetensors"],
        ),
        (["pytorch_model.bin", "spiece.model"], ["pytorch_model.bin", "spiece.model"]),
        (["weights.npz", "config.json"], ["config.json", "weights.npz"]),
        (
            ["config.yaml", "embedding/pytorch_model.bin", "a.png"],
            ["config.yaml", "embedding/pytorch_model.bin"],
        ),
        (["config.json", "onnx/model.onnx"], []),
    ],
)
def test_only_what_a_service_reads_is_wanted(names: list[str], chosen: list[str]) -> None:
    """One format of the weights, pickles only where there is nothing else."""
    assert hub_models.wanted(names) == chosen


def test_missing_shards_are_named(tmp_path: Path) -> None:
    """The index of the weights tells which files belong to a model."""
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    assert hub_models.missing_files(tmp_path) == ["config.json", "model-2.safetensors"]


def test_a_conversion_that_no_engine_makes_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no engine is installed; and not every engine reads every model."""
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')
    assert conversion.converter_of(BUNDLED, "mlx") == MLX.converters["mlx"]
    assert conversion.converter_of(tmp_path, "ctranslate2") == TRANSLATE.converters["ctranslate2"]
    with pytest.raises(RefusedError, match=r"model of type 'marian', to 'mlx'; use --to ctransl"):
        conversion.converter_of(tmp_path, "mlx")
    monkeypatch.setattr(conversion, "installed", lambda: (TRANSLATE,))
    with pytest.raises(RefusedError, match="no engine that is installed here converts asr-tiny"):
        conversion.converter_of(BUNDLED, "mlx")
