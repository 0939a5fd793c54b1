"""Evaluation: metrics of pixels and of instances, with intervals, of what a predictor draws."""
