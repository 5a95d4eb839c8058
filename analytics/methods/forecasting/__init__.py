"""Forecasts with intervals: several seasons, chosen by backtest, calibrated on the errors that were made."""

from analytics.methods.forecasting.forecast import Forecast, forecast

__all__ = ["Forecast", "forecast"]
