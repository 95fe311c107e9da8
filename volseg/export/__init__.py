"""Predictions and cohorts in the formats of other programs."""
