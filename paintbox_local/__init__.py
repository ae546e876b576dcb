"""`paintbox local patch`: from a folder of images to a report and a model, in one process and without a service.

It opens a private installation in a temporary folder and runs the worker's own steps in it, so what it does is what the
service would do with the same request.
"""
