"""Training: `CrackTrainer` and what it is made of."""

from .trainer import CrackTrainer

__all__ = ["CrackTrainer"]
