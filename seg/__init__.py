"""All but the article's three files."""

import os

# oneDNN: off by default on processors without AVX-512, where it halves a step. TensorFlow asks
# when it is imported, so that this comes first.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
