"""Models in memory: bases, how towers run, the pool of versions, and the aliases that it follows."""
