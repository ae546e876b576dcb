"""Labels that heads are built from: what is refused, and the stored ones, kept in memory."""
