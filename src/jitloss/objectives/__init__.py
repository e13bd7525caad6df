"""Losses as objectives of XGBoost, LightGBM and SciPy's minimisers."""

from .boosters import Metric, Objective, lightgbm, xgboost
from .linear import scipy

__all__ = ["Metric", "Objective", "lightgbm", "scipy", "xgboost"]
