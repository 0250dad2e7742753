"""One recording: where it is, what is asked for of it, and how it is to be done."""

from dataclasses import dataclass
from pathlib import Path

from voxroute_orchestrator.media import Source
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.subtitles.results import ResultForm
from voxroute_orchestrator.subtitles.rules import DEFAULT_RULES, CueRules


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recording with its spec, for the pipeline."""

    spec: JobSpec
    media: Path
    media_name: str = ""
    """What people know it by, if not by its path."""
    media_links: bool = True
    """Whether links in its path are followed."""
    max_audio_s: float | None = None
    """The longest recording that is taken, seconds of what is wanted of it; None for any."""
    folder: Path
    """Where the results are to be."""
    overwrite: bool = False
    rules: CueRules = DEFAULT_RULES
    """Those of the cues; `transcribe_media` takes them from the settings."""
    only_asr_endpoints: bool = False
    """Whether the configured services were named for this job, so that no local one will do."""
    only_translate_endpoints: bool = False
    journal: Path | None = None
    """Where what is finished is written down while the job runs; else beside the results."""
    resume: bool = False
    """Whether to go on from the journal of an earlier run, if there is one."""
    patience_s: float = 0.0
    """How long configured services may be away, where none that is left can do the job."""
    job_id: str = ""
    """Its name in logs and traces, those of the services too; "" for a new one."""

    @property
    def recording(self) -> Source:
        """The media, as it is opened."""
        return Source(self.media, self.media_name, self.spec.hls_folder, self.media_links)

    @property
    def form(self) -> ResultForm:
        """What its subtitles are to be like."""
        spec = self.spec
        return ResultForm(spec.formats, self.rules, spec.speaker_prefix, spec.drop_flagged)
