"""Metrics of one case and intervals over many: arrays in, numbers out; no files.

An undefined metric is NaN, never a number that looks like a result: `overlap.outcome` says why.
"""
