"""What `serving.py` measures with: a load generator, the servers that it is pointed at, and the bound without any."""
