"""From tokens to segments: where they begin and end, and what is not to be trusted."""
