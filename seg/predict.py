"""One stream of pictures through a network: each painted once, then written, scored, reported.

predict.run(model, jobs, [Masks(folder, model.about.classes), Score(model.about), report])
"""

import hashlib
import os
from collections import deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from seg import report
from seg.classes import indices_to_colours
from seg.files import InputError, is_ours, make_folder, refuse_foreign, unique_names
from seg.metrics import confusion, same_size
from seg.readers import read_image, read_label, to_bytes
from seg.sizes import resize

# A picture to paint: file; label: its file, or None; truth: function -> label (H, W), or None.
Job = namedtuple('Job', 'file read truth label')
# image (H, W, C); output: the network's (h, w, n), of its own input size; index uint8 (H, W).
Painted = namedtuple('Painted', 'job image output index')


def jobs_of(model, pairs, formats=None):
    """A Job for each (image path, label path or None); formats: see readers.recognise."""
    about, channels = model.about, model.input_shape[-1]
    jobs = []
    for file, label in pairs:
        read = partial(read_image, file, channels, about.intensity)
        truth = partial(read_label, label, about.classes, formats) if label else None
        jobs.append(Job(Path(file), read, truth, label))
    return jobs


def paint(model, jobs, flip=False):
    """Yield Painted of each job, in order.

    A picture becomes the network's input by the size rule of `model.about`, and the class
    probabilities become its own size again before the most probable is taken. Two pictures are in
    work at a time: two passes side by side keep two cores busier than one pass spread over both,
    and reading hides behind them. Raises InputError that names the file.

    flip: the mean of the probabilities of the picture and of its mirror image.
    """
    rule, classes = model.about.rule, model.about.classes

    def work(job):
        image = job.read()
        small = rule.image(image)
        batch = small[None] / np.float32(np.iinfo(small.dtype).max)
        if flip:
            batch = np.concatenate([batch, batch[:, :, ::-1]])
        output = keras.ops.convert_to_numpy(model.predict_on_batch(batch))
        if output.shape[1:3] != batch.shape[1:3]:
            size = f'{output.shape[1]}x{output.shape[2]}'
            raise InputError(f'{job.file}: the network gives {size} for {batch.shape[1:3]} pixels')
        if flip:
            output = (output[:1] + output[1:, :, ::-1]) / 2
        inner = rule.crop(output[0], image.shape)
        return Painted(job, image, output[0], most_probable(inner, image.shape[:2], classes))

    model.make_predict_function()  # once, before two threads find it missing
    # On jax a pass gives the weights' buffers away and takes them back: one at a time.
    with ThreadPoolExecutor(2 if keras.backend.backend() == 'tensorflow' else 1) as pool:
        ahead = deque()
        for job in jobs:
            ahead.append(pool.submit(work, job))
            if len(ahead) > 2:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def most_probable(probability, size, classes):
    """Probabilities (h, w, C) -> uint8 index (H, W) of `size`, scaled bilinearly class by class.

    One class after another, so that a large picture needs two of its planes and not C.
    """
    scored = classes.scored
    if probability.shape[-1] == 1:
        probability, scored = np.concatenate([1 - probability, probability], -1), [0, 1]
    index = np.full(size, scored[0], np.uint8)
    best = None
    planes = np.ascontiguousarray(np.moveaxis(probability, -1, 0))  # strided takes twice as long
    for c in scored:
        plane = resize(planes[c], size, Image.Resampling.BILINEAR)
        if best is None:
            best = plane.copy()
        else:
            np.copyto(index, c, where=plane > best, casting='unsafe')
            np.maximum(best, plane, out=best)
    return index


def run(model, jobs, takers, flip=False):
    """Paint each job once and give it to every taker: function(Painted).

    Takers are called in order, on a thread of their own, so that they hide behind the network.
    Returns: number of pictures.
    """
    bar, waiting = keras.utils.Progbar(len(jobs), unit_name='image'), deque()
    with ThreadPoolExecutor(1) as pool:
        for i, painted in enumerate(paint(model, jobs, flip)):
            waiting.append(pool.submit(lambda p: [take(p) for take in takers], painted))
            if len(waiting) > 2:
                waiting.popleft().result()
            bar.update(i + 1)
        while waiting:
            waiting.popleft().result()
    return len(jobs)


def source_of(file):
    """What a mask says of the picture that it is of: a hash of its path."""
    return hashlib.sha1(os.fsencode(Path(file).resolve())).hexdigest()


class Masks:
    """Writes <name>.png colour masks to a folder, overlays with a legend to its overlay/.

    Where two pictures have one name, the second's is <name>-2, also when the first was painted
    earlier: a mask tells by a text chunk which picture it is of.

    Args:
        files: all that will come.
        opacity: of the class colours over the picture. side_by_side: the picture and its mask next
            to each other, into side-by-side/, instead of overlays.
    Raises: InputError where the folder cannot be written, or a mask would overwrite a picture.
    """

    def __init__(self, folder, files, classes, opacity=0.5, side_by_side=False):
        self.folder, self.classes, self.opacity = make_folder(folder), classes, opacity
        self.side_by_side = side_by_side
        self.names = dict(zip(files, unique_names(files, self._occupied)))
        taken = {Path(file).resolve() for file in files}
        for file, name in self.names.items():
            if (self.folder / f'{name}.png').resolve() in taken:
                raise InputError(
                    f'{self.folder / name}.png: the mask of {file} would overwrite this picture; '
                    'name another folder with --output'
                )
        again = [f'{f} as {name}' for f, name in self.names.items() if name != Path(f).stem]
        if again:
            more = f' and {len(again) - 5} more' * (len(again) > 5)
            print(f'Pictures of the same name, written as another: {", ".join(again[:5])}{more}')
        self.shown = make_folder(self.folder / ('side-by-side' if side_by_side else 'overlay'))
        for name in self.names.values():
            refuse_foreign(self.folder / f'{name}.png')
            refuse_foreign(self.shown / f'{name}.jpg')

    def _occupied(self, name, file):
        mask = self.folder / f'{name}.png'
        if not mask.exists() or not is_ours(mask):
            return False
        with Image.open(mask) as picture:
            return picture.info.get('Source') not in (None, source_of(file))

    def __call__(self, painted):
        if painted.job.file not in self.names:  # one that is scored only
            return
        name, classes = self.names[painted.job.file], self.classes
        mask = indices_to_colours(painted.index, classes)
        report.save_picture(mask, self.folder / f'{name}.png', source_of(painted.job.file))
        image = to_bytes(painted.image)
        rgb = np.ascontiguousarray(np.broadcast_to(image, (*painted.index.shape, 3)))
        if self.side_by_side:
            picture = report.side_by_side(rgb, mask)
        else:
            picture = report.overlay(rgb, painted.index, classes, self.opacity)
        picture = np.vstack([picture, report.legend(classes, picture.shape[1])])
        report.save_picture(picture, self.shown / f'{name}.jpg')


class Score:
    """Sums the confusion count of every picture with a label, at the label's own size.

    each: also called with (name, image uint8, truth, index) of each, as Report.add.
    """

    def __init__(self, classes, each=None):
        self.classes, self.each, self.counts, self.images = classes, each, 0, 0

    def __call__(self, painted):
        job, index = painted.job, painted.index
        if job.truth is None:
            return
        truth = job.truth()
        same_size(job.file, index, job.label, truth)
        self.counts = self.counts + confusion(truth, index, self.classes)
        self.images += 1
        if self.each:
            self.each(job.file.name, to_bytes(painted.image), truth, index)
