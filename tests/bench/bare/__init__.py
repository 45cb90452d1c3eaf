"""Bare loops: the least that anybody has to do, for the work that a row measures. No room, no log, no order, no bound."""
