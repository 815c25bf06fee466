"""All but the article's three files; `from seg import Segmenter` is the network as a function."""

import os
import sys

skipped = []  # lines on pictures that could not be used while others were, of this command

# Off by default without AVX-512, where it halves a step; TensorFlow asks when it is imported.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
# A keras.json may name a backend that another program of the user's needs, and this one not.
os.environ['KERAS_BACKEND'] = os.environ.get('KERAS_BACKEND') or 'tensorflow'

# A closed one of the three streams (`>&-`) would be the number of the next file that is opened, and
# TensorFlow's messages would go into that.
while (number := os.open(os.devnull, os.O_RDWR)) < 3:
    pass
os.close(number)
sys.stdout = sys.stdout or open(os.devnull, 'w')
sys.stderr = sys.stderr or open(os.devnull, 'w')


def __getattr__(name):
    if name != 'Segmenter':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from seg.segmenter import Segmenter  # with NumPy, without which --help answers

    return Segmenter
