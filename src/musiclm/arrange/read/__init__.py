"""Music from elsewhere: tunes, chords and drum grooves as material, and finished pieces as scores."""
