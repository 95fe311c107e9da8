"""A trained network in other hands: packed for the model zoo, watching a folder, shown in a browser."""
