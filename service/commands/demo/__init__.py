"""`loadlens-service demo`: a real fleet, loaded over HTTP into a running service."""

from service.commands.demo.command import main

__all__ = ["main"]
