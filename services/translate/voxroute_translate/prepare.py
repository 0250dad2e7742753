"""Converts a translation model to CTranslate2 as the service would.

See voxroute_serving.models.preparation.
"""

import sys
from pathlib import Path

from voxroute_serving.domain import Activity
from voxroute_serving.errors import ModelUnavailableError, ServingError
from voxroute_serving.models import hub, preparation
from voxroute_translate import engine, registry


def prepare(name: str, source: Path, cache_dir: Path, activity: Activity) -> Path:
    """The directory of the converted model. Raises ModelNotFoundError, ModelUnavailableError."""
    card = registry.describe(name, source, hub.revision_of)
    try:
        return engine.ctranslate2_directory(card, cache_dir, activity)
    except ServingError:
        raise
    except Exception as error:
        raise ModelUnavailableError(
            f"{name} cannot be converted: {error}; check that its files are complete"
        ) from error


if __name__ == "__main__":
    sys.exit(preparation.run(prepare))
