"""Sampling of traffic: images that the service keeps to be labelled."""
