"""`loadlens-service forward`: the reports of a service, as they are acknowledged, by remote write to others."""

from service.commands.forward.command import main

__all__ = ["main"]
