"""The local stack: engines and workers of one copy of Roomlog, started, watched and stopped by one supervisor.

Read in this order: plan (what should run), engines and roles (how each is started), watched (one process kept alive),
supervisor (all of them, in order), commands (what a person types). Started as `python docker/stack COMMAND`.
"""
