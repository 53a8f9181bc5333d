"""What benchmarks against peers share: the peers' environments, and an end in order."""
