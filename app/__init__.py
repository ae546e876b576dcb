"""The HTTP edge and the serving engine: FastAPI in front, one model in memory, jobs handed to the worker by id."""
