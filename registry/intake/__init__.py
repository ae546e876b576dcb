"""Reading what people upload: one small reader per layout, behind one protocol (`plan.Layout`)."""
