"""What every other package may use: audio files, features, configs, artifacts and bundles, token streams, tempi and keys."""
