"""Imported once before commands are forked: what an evaluation would else compile again in each of them."""

import numpy as np

from musiclm.evaluate.pictures import side_by_side
from musiclm.listen.analysers import Meter, MusicAnalyser

clip = 0.1 * np.random.default_rng(0).standard_normal(3 * 24000).astype(np.float32)
MusicAnalyser()(clip)
Meter()(clip)
side_by_side([("noise", clip)], [("noise", clip)])
