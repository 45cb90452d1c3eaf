"""The gateway's start and stop."""
