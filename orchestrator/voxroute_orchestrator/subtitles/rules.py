"""What a cue may be: one object of limits, which settings can change.

The numbers are those of the timed text style guides that Netflix publishes (its general
requirements and the guides of single languages), for want of a public standard that is used as
widely: 42 characters a line, for Chinese, Japanese and Korean 16 of full width; two lines; at most
7 seconds; two frames between cues; 17 characters a second, 12 for Korean, 9 for Chinese, 4 for
Japanese. The least time is rounded up from the guide's 5/6 s to a second.
"""

from typing import Self

from pydantic import BaseModel, Field, model_validator


class CueRules(BaseModel, frozen=True, extra="forbid"):
    """The limits of cues, lengths in characters as a person sees them, times in milliseconds."""

    line_characters: int = Field(default=42, ge=10, le=200)
    """Longest line. Too low: sentences are torn apart. Too high: small screens wrap the line."""
    cjk_line_characters: int = Field(default=16, ge=5, le=100)
    """Longest line with Chinese, Japanese or Korean in it, in characters of full width; a Latin
    letter or a blank counts as half of one."""
    lines: int = Field(default=2, ge=1, le=3)
    """Most lines of a cue. Too high: the picture is covered."""
    min_ms: int = Field(default=1000, ge=1)
    """Least time on the screen. Too low: cues flash. Too high: cues are joined or late."""
    max_ms: int = Field(default=7000, ge=500)
    """Most time on the screen. Too low: slow speech is torn apart. Too high: cues linger."""
    min_gap_ms: int = Field(default=83, ge=0, le=1000)
    """Least time between cues; two frames at 24 a second. Too low: a change is not noticed."""
    max_pause_ms: int = Field(default=1000, ge=0)
    """Longest silence inside a cue. Too high: a cue tells what is said only later."""
    max_delay_ms: int = Field(default=250, ge=0)
    """How long after its first word a cue may begin, so that the one before it can be read."""
    characters_per_s: float = Field(default=17, gt=0)
    """Reading speed. Too low: cues stay long after the speech."""
    chinese_characters_per_s: float = Field(default=9, gt=0)
    japanese_characters_per_s: float = Field(default=4, gt=0)
    korean_characters_per_s: float = Field(default=12, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_ms > self.max_ms:
            raise ValueError(f"min_ms ({self.min_ms}) is more than max_ms ({self.max_ms})")
        return self


DEFAULT_RULES = CueRules()
