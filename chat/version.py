"""The version of Roomlog; setup.cfg reads it from here."""

__version__ = "0.1.0"
