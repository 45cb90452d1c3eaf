"""What the operations of agents/upkeep.py do: trim, re-archive, rebuild the tables, back up and restore."""
