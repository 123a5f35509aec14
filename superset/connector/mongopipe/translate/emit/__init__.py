"""Converts a relational plan to the stages of one aggregation pipeline."""

from mongopipe.translate.emit.pipeline import Pipeline, emit

__all__ = ["Pipeline", "emit"]
