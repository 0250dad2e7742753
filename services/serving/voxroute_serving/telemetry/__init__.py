"""What is told about a process: log lines, traces, the id of a call."""
