"""Notifications: what rules have found, said to those who want to know, until they have it."""
