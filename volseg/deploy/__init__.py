"""Deployment of a trained network: packed for the model zoo, watching a folder, shown in a browser."""
