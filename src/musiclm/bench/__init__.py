"""`musiclm bench`: how fast a bundle, its training and other projects' models are on this machine, one question a file.

`run.py` puts a run together and writes it; `speed.py` times generation, `training.py` all seven stages, `peers.py`
other models beside ours, `loaded.py` generation beside another busy process, `compare.py` shows two results by ratio.
All share the clock of `measure.py`; `fresh.py` is what runs in a process of its own.

Absolute times of a busy machine are noise: measure two bundles in turn and compare by ratio.
"""
