"""Parameters, arithmetic, time and memory of models, side by side."""
