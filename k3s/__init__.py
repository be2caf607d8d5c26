"""Kubernetes: manifests for stores and for the centre, and a testbed of real clusters on one machine."""
