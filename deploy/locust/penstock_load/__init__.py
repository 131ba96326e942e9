"""A load test of a server of the Open Inference Protocol, for Locust."""
