"""Music whose every fact is known: pieces arranged from melodies, chords and human drum grooves, rendered, and put into
words.

sources -> arrange (styles, harmony, patterns) -> Score -> render -> audio
                                                    Score -> facts of a window -> captions
"""
