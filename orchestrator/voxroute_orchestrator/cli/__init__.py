"""From flags to a call, from outcomes to an exit code."""
