"""`/livez`, `/readyz` and `/metrics` of every worker."""
