"""Who has the accelerator, and when: batches, models in memory, the host."""
