"""Credentials: tokens with a role and a scope, and the sessions of browsers that signed in with one."""
