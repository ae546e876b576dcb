"""Image files of strangers: header limits, decoding, rendering to upright sRGB, and the model's preprocessing.

Its modules are imported one by one: only `preprocess.py` loads torch, and checking uploads does not need it.
"""
