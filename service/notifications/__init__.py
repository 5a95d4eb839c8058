"""Notifications: a queue of what alerts have done, and its delivery to webhooks, e-mail and chats."""
