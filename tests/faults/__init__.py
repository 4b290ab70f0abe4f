"""Commands that are killed, starved of disk, given torn files, NaN or a jumping clock: nothing is lost."""
