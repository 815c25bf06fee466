"""Which pictures to label next: those that the network is least sure of, no two alike.

Uncertainty is the mean entropy of the class probabilities of a picture's pixels (Settles, "Active
Learning Literature Survey", 2009). The most uncertain ones of a video are one scene again and
again, so that a picture counts by its entropy times its distance from the nearest one chosen before
it: farthest-first, as of core-sets (Sener and Savarese, "Active Learning for Convolutional Neural
Networks: A Core-Set Approach", ICLR 2018), here of greys of 16x16. What disagreement with the
mirrored picture adds (BALD: Houlsby et al., "Bayesian Active Learning", 2011) is not worth a second
pass: bench/notes.md.
"""

import numpy as np
from PIL import Image
from scipy.special import entr

from seg import report
from seg.files import check_target, write_csv
from seg.predict import jobs_of, run
from seg.sources import find_pictures
from seg.tiles import thinned

FILE = 'next.csv'


class Entropy:
    """Job.each that sums the entropy, in bits, of the pixels of a picture, whole or in parts."""

    def __init__(self, classes):
        self.scored, self.total, self.pixels = classes.scored, 0, 0

    def __call__(self, rows, columns, output):
        if output.shape[-1] == 1:
            chances = np.concatenate([1 - output, output], -1)
        else:
            chances = output[..., self.scored]
        chances = chances / np.maximum(chances.sum(-1, keepdims=True), 1e-7)
        self.total += float(entr(chances).sum()) / np.log(2)
        self.pixels += chances.shape[0] * chances.shape[1]


def choose(model, pictures, count, settings):
    """Print and write to next.csv which `count` of the pictures, files, folders or globs, to label
    next: rank, picture, mean entropy in bits a pixel. InputError where there are none, or next.csv
    is somebody else's."""
    check_target(FILE)
    files = find_pictures(pictures, model.input_shape[-1], model.about.paged)
    jobs = [
        job._replace(each=Entropy(model.about.classes))
        for job in jobs_of(model, [(file, None) for file in files])
    ]
    painted_files, scores, greys = [], [], []

    def take(painted):
        each = painted.job.each
        if painted.output is not None:
            each(None, None, painted.output)
        painted_files.append(str(painted.job.file))
        scores.append(each.total / each.pixels)
        small = Image.fromarray(report.as_rgb(thinned(painted.image, 1024))).convert('L')
        greys.append(np.asarray(small.resize((16, 16)), np.float32).ravel())

    run(model, jobs, [take], settings)
    rows = [
        (rank, painted_files[i], f'{scores[i]:.3f}')
        for rank, i in enumerate(apart(np.array(scores), np.array(greys), count), 1)
    ]
    write_csv(FILE, [('rank', 'picture', 'score'), *rows])
    print(f'{"rank":>5}{"score":>8}  picture   (score: mean entropy of a pixel, in bits)')
    for rank, file, score in rows:
        print(f'{rank:5}{score:>8}  {file}')
    print(f'Wrote {FILE}')
    print(f'Next: label these {len(rows)} of {len(files)}, add them to the data and train again')


def apart(scores, features, count):
    """Places of at most `count` of n pictures, in order: the highest score (n,), then the highest
    score times the distance of its features (n, d) from the nearest of those before."""
    chosen, distance = [], np.ones(len(scores))
    for _ in range(min(count, len(scores))):
        value = scores * distance
        value[chosen] = -1
        chosen.append(int(value.argmax()))
        new = np.linalg.norm(features - features[chosen[-1]], axis=1)
        distance = np.minimum(distance, new) if len(chosen) > 1 else new
    return chosen
