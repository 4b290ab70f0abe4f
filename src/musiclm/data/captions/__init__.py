"""Captions: written from weak labels (`weak`) or by a grammar from the facts of a score (`sentences`)."""
