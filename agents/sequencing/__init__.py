"""The sequencer's parts: what a command may be, rows, the writer of one partition, its recovery, its snapshots."""
