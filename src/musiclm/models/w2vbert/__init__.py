"""w2v-BERT (arXiv 2108.06209) and the semantic tokens cut from it (AudioLM, arXiv 2209.03143, section 3.2)."""
