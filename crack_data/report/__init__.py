"""The page that lets a person inspect a converted data set before training on it."""

from .page import write_report

__all__ = ["write_report"]
