"""Scores: photos and masks of the protocol, metrics, controls, reports."""
