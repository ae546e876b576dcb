"""Backups of an installation: the database and every blob that it needs, in a folder or in one tar file.

A backup folder holds snapshots, which share blobs: each has a copy of the database and a manifest that names its blobs.
The manifest is written last, so what a killed backup leaves is no snapshot, and the earlier ones stay as they are.
"""
