"""What API and worker both do with the registry and the library together: one implementation, one set of checks.

Its modules are imported one by one: a worker that supervises sets up its log here and loads no PyTorch.
"""
