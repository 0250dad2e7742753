"""What accelerators this host has, found out without importing any ML framework."""

import platform
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from voxroute_orchestrator.engines import installed
from voxroute_serving.device.host import apple_chip, host_memory, usable_processors
from voxroute_serving.device.nvidia import Gpu, shown_gpus
from voxroute_serving.manifest import Engine

_SMI_TIMEOUT_S = 10.0  # nvidia-smi takes seconds where persistence mode is off
_MIB = 1024**2
_PCI_DEVICES = Path("/sys/bus/pci/devices")
_PCI_NVIDIA = "0x10de"
_PCI_DISPLAY = "0x03"  # the class of VGA and 3D controllers


@dataclass(frozen=True, slots=True)
class Host:
    """A host's processors, as far as routing and recommendations need to know them."""

    system: str
    """As platform.system() says: "Linux", "Darwin"."""
    machine: str
    """As platform.machine() says: "x86_64", "arm64"."""
    cpus: int
    memory_bytes: int = 0
    """0 where nobody has asked for it; so `free_bytes`."""
    free_bytes: int = 0
    """Memory that programs can still get."""
    gpus: tuple[Gpu, ...] = ()
    """The NVIDIA GPUs that the driver shows."""
    gpu_problem: str = ""
    """Why an NVIDIA GPU that seems to be there cannot be used; "" where all is well."""
    engines: tuple[Engine, ...] = ()
    """What is installed."""
    chip: str = ""
    """The name of an Apple chip: "Apple M1 Pro"."""

    @property
    def mps(self) -> bool:
        """Whether the host has an Apple GPU."""
        return self.system == "Darwin" and self.machine == "arm64"

    @property
    def cuda(self) -> bool:
        """Whether the host has an NVIDIA GPU with a driver that works."""
        return bool(self.gpus)

    @property
    def accelerator(self) -> str:
        """The kind of processor that should do the work: "mps", "cuda" or "cpu"."""
        return "mps" if self.mps else "cuda" if self.cuda else "cpu"

    def engine(self, kind: Literal["asr", "translate"], *devices: str) -> Engine | None:
        """The first engine for the first of these devices that there is one for."""
        able = [(d, e) for d in devices for e in self.engines if e.kind == kind and d in e.devices]
        return able[0][1] if able else None


def detect() -> Host:
    """The hardware of this host, but for its memory."""
    system, machine = platform.system(), platform.machine()
    mac = system == "Darwin"
    gpus, problem = ((), "") if mac else nvidia_gpus()
    return Host(
        system=system,
        machine=machine,
        cpus=usable_processors(),
        gpus=gpus,
        gpu_problem=problem,
        engines=installed(),
        chip=apple_chip(),
    )


def with_memory(host: Host) -> Host:
    """The host, which is this one, with its memory: what models suit it."""
    total, free = host_memory()
    return replace(host, memory_bytes=total, free_bytes=free)


def nvidia_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The NVIDIA GPUs, and why there are none where there should be some.

    Asks the driver's own library, else nvidia-smi, else the PCI bus.
    """
    problems: list[str] = []
    for ask in (shown_gpus, _smi_gpus):
        gpus, problem = ask()
        if gpus:
            return gpus, ""
        if problem:
            problems.append(problem)
    if problems:
        return (), problems[-1]
    if _gpu_on_bus():
        return (), (
            "an NVIDIA GPU is on the PCI bus, but no driver is installed (nvidia-smi and its"
            " library are missing)"
        )
    return (), ""


def _smi_gpus() -> tuple[tuple[Gpu, ...], str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), ""
    query = "--query-gpu=name,memory.total,memory.free"
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command line
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (), f"nvidia-smi did not answer within {_SMI_TIMEOUT_S:.0f} s; the driver hangs"
    except OSError as error:
        return (), f"nvidia-smi cannot be run ({error.strerror})"
    if answer.returncode != 0:
        said = " ".join((answer.stdout + answer.stderr).split()) or f"exit {answer.returncode}"
        return (), f"the NVIDIA driver does not work (nvidia-smi: {said[:200]})"
    return tuple(_smi_gpu(line) for line in answer.stdout.splitlines() if line.strip()), ""


def _smi_gpu(line: str) -> Gpu:
    name, *sizes = (part.strip() for part in line.split(","))
    # "[N/A]" on hosts where the GPU shares the host's memory
    total, free = (int(size) * _MIB if size.isdecimal() else 0 for size in (*sizes, "", "")[:2])
    return Gpu(name or "NVIDIA GPU", total, free)


def _gpu_on_bus() -> bool:
    """Whether the kernel sees an NVIDIA display controller (Linux)."""
    for device in _PCI_DEVICES.glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if vendor == _PCI_NVIDIA and kind.startswith(_PCI_DISPLAY):
            return True
    return False
