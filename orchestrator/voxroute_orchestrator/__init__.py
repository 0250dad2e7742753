"""The voxroute command: media in, transcript and translated subtitles out."""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, read once somebody asks: importlib.metadata takes 20 ms to import."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see above

    try:
        return version("voxroute-orchestrator")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
