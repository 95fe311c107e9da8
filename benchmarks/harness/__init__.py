"""What every benchmark shares: paired rounds, material, the result file, tables and pages made from it."""
