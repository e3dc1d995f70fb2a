"""Posthaste, a mail transfer agent. ARCHITECTURE.md says which room does what."""
