"""What every room uses: checks of arguments and devices, random draws by seed, the allocator, the environment.

Its modules are imported one by one, because some are used where torch is not loaded.
"""
