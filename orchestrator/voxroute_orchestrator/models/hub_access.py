"""Where the hub's library keeps its downloads, and whether the hub answers."""

import threading
from collections.abc import Mapping
from pathlib import Path

_HUB = "https://huggingface.co"
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Where the hub's library keeps its downloads."""
    if named := environment.get("HF_HUB_CACHE"):
        return Path(named)
    home = environment.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


def hub_answers(environment: Mapping[str, str], limit_s: float) -> bool:
    """Whether the model hub may be asked and answers within that time. Blocking."""
    if environment.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        return False
    address = environment.get("HF_ENDPOINT") or _HUB
    if not address.startswith(("https://", "http://")):
        return False
    answers: list[bool] = []
    # no time limit holds for looking its name up
    asking = threading.Thread(
        target=lambda: answers.append(_answers(address, limit_s)), name="hub", daemon=True
    )
    asking.start()
    asking.join(limit_s)
    return answers == [True]


def _answers(address: str, limit_s: float) -> bool:
    import http.client  # noqa: PLC0415 - only who sets a host up asks the hub
    import urllib.error  # noqa: PLC0415 - as above
    import urllib.request  # noqa: PLC0415 - as above

    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - checked above
        with urllib.request.urlopen(request, timeout=limit_s):  # noqa: S310 - as above
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True  # it answers, if only to say that this page is not for us
    except (OSError, ValueError, http.client.HTTPException):
        return False
