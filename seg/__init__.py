"""All but the article's three files."""

import os

# Off by default without AVX-512, where it halves a step; TensorFlow asks when it is imported.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
