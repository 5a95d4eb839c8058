"""Copies of all that a store holds into another store, of whatever kind."""

from service.commands.copy.command import main

__all__ = ["main"]
