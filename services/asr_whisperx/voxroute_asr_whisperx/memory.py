"""Gives the device's memory back to who needs it."""

import sys

from voxroute_serving.device.host import give_back_freed_memory


def free_memory(device: str) -> None:
    """Gives back what is kept for later: what torch has on a GPU, CTranslate2 cannot use."""
    if device == "cpu":
        give_back_freed_memory()
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        torch.cuda.empty_cache()
