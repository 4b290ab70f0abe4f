"""Measurements: one metric a file, plain functions."""
