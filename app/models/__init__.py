"""Models in memory: bases, versions that are loaded or cached, and the aliases that they follow."""
