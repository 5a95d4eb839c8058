"""Copies of the data folder: made while the service runs, kept, verified, and put back."""
