"""Training under differential privacy: what was learned from any one row, or group of rows, cannot be told."""
