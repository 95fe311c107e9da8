"""Adapting a trained network to a patient."""
