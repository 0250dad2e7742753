"""What a person asks for."""

from dataclasses import dataclass
from pathlib import Path

from voxroute_orchestrator.glossary import GlossaryTerm
from voxroute_orchestrator.media import Source
from voxroute_orchestrator.subtitles.results import DEFAULT_FORM, ResultForm


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The options of run and transcribe."""

    media: Path
    media_name: str = ""
    """What people know it by, if not by its path."""
    media_links: bool = True
    """Whether links in its path are followed."""
    hls_folder: bool = False
    """Whether a playlist may open what is in its folder."""
    max_audio_s: float | None = None
    """The longest recording that is taken, seconds of what is wanted of it; None for any."""
    source: str | None
    targets: tuple[str, ...] = ()
    folder: Path
    model: str
    translate_model: str = ""
    audio_stream: int | None
    audio_channel: int | None = None
    """Which channel is wanted, counted from 0; None for what holds the voice."""
    words: bool
    align: bool = False
    """Whether words get their times from a service that aligns the finished transcript."""
    speakers: bool = False
    min_speakers: int = 0
    max_speakers: int = 0
    diarization_model: str = ""
    strict: bool
    overwrite: bool
    form: ResultForm = DEFAULT_FORM
    mux: bool = False
    """Whether a copy of the media with the subtitles in it is written too."""
    start_s: float = 0.0
    end_s: float | None = None
    backend: str = "auto"
    device: str = "auto"
    translate_device: str = "auto"
    compute_type: str = ""
    batch_size: int = 0
    only_asr_endpoints: bool = False
    only_translate_endpoints: bool = False
    allowed_languages: tuple[str, ...] = ()
    """Two or more where the language changes within the recording; `source` is None."""
    vad_disabled: bool = False
    glossary: tuple[GlossaryTerm, ...] = ()
    journal: Path | None = None
    """Where what is finished is written down while the job runs; else beside the results."""
    resume: bool = False
    """Whether to go on from the journal of an earlier run, if there is one."""
    patience_s: float = 0.0
    """How long the configured services may be away when the job begins."""
    job_id: str = ""
    """Its name in logs and traces, those of the services too; "" for a new one."""

    @property
    def recording(self) -> Source:
        """The media, as it is opened."""
        return Source(self.media, self.media_name, self.hls_folder, self.media_links)

    @property
    def tells_speakers(self) -> bool:
        """Whether to tell speakers apart; a number of them asks for it too."""
        return self.speakers or self.min_speakers > 0 or self.max_speakers > 0
