"""What every package may use: audio files, features, configs, artifacts, bundles, token streams, tempi, keys."""
