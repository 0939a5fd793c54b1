"""HTTP server around one crack predictor: post a photo, get the drawn cracks and the percentage."""

from .app import create_app
from .settings import Settings

__all__ = ["Settings", "create_app"]
