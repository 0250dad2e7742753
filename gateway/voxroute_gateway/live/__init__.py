"""Speech that is transcribed while it is spoken: what all interfaces for it share."""
