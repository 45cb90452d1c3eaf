"""What the operations in agents/losses.py do: see there, and docs/decisions/0007-accepted-losses.md."""
