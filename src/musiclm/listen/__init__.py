"""Programs that say something of a clip, for evaluation, audit and labels alike. One a file."""
