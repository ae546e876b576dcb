"""A machine-learning backend for Label Studio that asks a running Paintbox service.

It speaks Label Studio's protocol (`/health`, `/setup`, `/predict`, `/webhook`), and knows Paintbox by its client only.
Nothing is imported here: `paintbox --help` reads the summary of the command.
"""
