"""Tests of `musiclm.serve`."""
