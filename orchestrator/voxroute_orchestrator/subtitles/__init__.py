"""From segments to cues to files, and back."""
