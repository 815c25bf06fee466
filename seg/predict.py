"""One stream of pictures through a network: each painted once, then written, scored, reported."""

import hashlib
import os
import shutil
from collections import deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from seg import metrics, report
from seg.classes import indices_to_colours
from seg.files import (
    InputError,
    check_target,
    copy_whole,
    folders_of,
    is_ours,
    make_folder,
    refuse_folder,
    refuse_foreign,
    unique_names,
)
from seg.readers import read_image, read_label, to_bytes
from seg.runs import BEST, read_progress
from seg.settings import versions
from seg.sizes import resize
from seg.sources import find_pictures, load

# A picture to paint: file; read: -> image; truth: -> label (H, W), or None; label: its file.
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

    A picture becomes the network's input by the size rule of `model.about`; the class probabilities
    (flip: their mean with those of the mirror image) become its own size again before the most
    probable is taken. Two pictures are in work at a time: two passes side by side keep two cores
    busier than one spread over both. Raises InputError that names the file.
    """
    import keras

    rule, classes = model.about.rule, model.about.classes

    def work(job):
        image = job.read()
        small = rule.image(image)
        batch = small[None] / np.float32(np.iinfo(small.dtype).max)
        if flip:
            batch = np.concatenate([batch, batch[:, :, ::-1]])
        try:
            output = keras.ops.convert_to_numpy(model.predict_on_batch(batch))
        except Exception as e:  # of a network of somebody else: skips that do not meet, no memory
            why = f'{type(e).__name__}: {" ".join(str(e).split())[:150]}'
            raise InputError(f'{job.file}: the network fails at {batch.shape} ({why})') from None
        if output.shape[:3] != batch.shape[:3]:
            found = f'{output.shape} for {batch.shape}'
            raise InputError(f'{job.file}: the network gives {found}; expected the same sides')
        if not np.isfinite(output).all():
            mend = 'its weights are damaged, or its training went wrong; take another model'
            raise InputError(f'{job.file}: the network gives values that are not finite; {mend}')
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
    planes = np.ascontiguousarray(np.moveaxis(probability, -1, 0))  # strided takes twice as long
    index, best = np.full(size, scored[0], np.uint8), None
    for c in scored:
        plane = resize(planes[c], size, Image.Resampling.BILINEAR)
        if best is None:
            best = plane.copy()
        else:
            np.copyto(index, c, where=plane > best, casting='unsafe')
            np.maximum(best, plane, out=best)
    return index


def run(model, jobs, takers, flip=False):
    """Paint each job once and give it to every taker: function(Painted), called in order on a
    thread of their own, so that they hide behind the network. Returns: number of pictures."""
    import keras

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


class Masks:
    """Writes <name>.png colour masks to a folder, overlays with a legend to its overlay/, or
    picture and mask next to each other to side-by-side/.

    Where two pictures have one name, the second's is <name>-2, also when the first was painted
    earlier: a mask tells by a text chunk which picture it is of. files: all that will come;
    read: more folders that are only read.
    Raises: InputError where the folder cannot be written, pictures are read there, or this program
        did not write what is there.
    """

    def __init__(self, folder, files, classes, settings, read=()):
        self.folder, self.classes, self.settings = Path(folder), classes, settings
        self.names = dict(zip(files, unique_names(files, self._occupied)))
        again = [f'{f} as {name}' for f, name in self.names.items() if name != Path(f).stem]
        if again:
            more = f' and {len(again) - 5} more' * (len(again) > 5)
            print(f'Pictures of the same name, written as another: {", ".join(again[:5])}{more}')
        self.shown = _shown(folder, settings)
        for name in self.names.values():
            refuse_foreign(self.folder / f'{name}.png')
            refuse_foreign(self.shown / f'{name}.jpg')
        make_folders(folder, settings, [*folders_of(files), *read])

    def _occupied(self, name, file):
        mask = self.folder / f'{name}.png'
        if not mask.exists() or not is_ours(mask):
            return False
        with Image.open(mask) as picture:
            return picture.info.get('Source') not in (None, _source(file))

    def __call__(self, painted):
        if painted.job.file not in self.names:  # one that is scored only
            return
        name, index = self.names[painted.job.file], painted.index
        mask = indices_to_colours(index, self.classes)
        report.save_picture(mask, self.folder / f'{name}.png', _source(painted.job.file))
        rgb = np.ascontiguousarray(np.broadcast_to(to_bytes(painted.image), mask.shape))
        if self.settings.side_by_side:
            picture = report.side_by_side(rgb, mask)
        else:
            picture = report.overlay(rgb, index, self.classes, self.settings.opacity)
        named = report.to_name(index, self.classes)
        picture = np.vstack([picture, report.legend(self.classes, picture.shape[1], named)])
        report.save_picture(picture, self.shown / f'{name}.jpg')


def _source(file):
    """What a mask says of the picture that it is of: a hash of its path."""
    return hashlib.sha1(os.fsencode(Path(file).resolve())).hexdigest()


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
        metrics.same_size(job.file, index, job.label, truth)
        self.counts = self.counts + metrics.confusion(truth, index, self.classes)
        self.images += 1
        if self.each:
            self.each(job.file.name, to_bytes(painted.image), truth, index)


def _shown(folder, settings):
    return Path(folder) / ('side-by-side' if settings.side_by_side else 'overlay')


def make_folders(folder, settings, read):
    """Make the folders that masks of a run go to; InputError where they are among those `read`."""
    for place in (folder, _shown(folder, settings)):
        refuse_folder(place, [settings.data, *read])
    for place in (folder, _shown(folder, settings)):
        make_folder(place)


def check_output(data, settings):
    """InputError, before a training, where its masks can not go to settings.output."""
    if settings.output:
        files = [path for pair in data.pairs() for path in pair if path]
        make_folders(settings.output, settings, folders_of(files))


def paint_and_score(model, data, folder, settings):
    """Paint the test images of a run and score those with labels, each of them once; where the test
    images have none, the validation images are scored beside. All of it goes to the run's folder,
    CamVid's masks to CamVid/testpred too, where the article has them."""
    split, scored = data.scored()
    painted = data.splits.get('test') or scored
    shown = settings.output or folder / 'masks'
    masks = Masks(shown, [image for image, _ in painted], data.classes, settings)
    page = report.Report(folder / 'report.html', data.classes)
    score = Score(data.classes, page.add)
    pairs = painted if painted is scored or split == 'test' else [*painted, *scored]
    run(model, jobs_of(model, pairs, data.formats), [masks, score], settings.flip)
    history = read_progress(folder)['history']
    report.to_png(report.curves_figure(history), folder / 'curves.png')
    about = dict(split=split, images=score.images, of=str(folder / BEST), flip=settings.flip)
    _conclude(score.counts, data.classes, about, folder / 'scores.json', page, settings, history)
    if settings.data == 'CamVid' and not (settings.images or settings.output):
        how = dict(copy_function=copy_whole, dirs_exist_ok=True)
        try:
            shown = shutil.copytree(shown, 'CamVid/testpred', **how)
        except (OSError, InputError) as e:  # the run has them all the same
            why = ' '.join(str(e).split())[:200]
            print(f'Note: no copy of the masks in CamVid/testpred ({why})')
    print(f'Masks: {shown}/, overlays: {shown}/{masks.shown.name}/, report: {folder}/report.html')
    print(f'Curves: tensorboard --logdir {settings.log}')


def paint_files(model, path, pictures, settings):
    """Masks of files, folders or globs, into predicted/<model>/ or settings.output."""
    test = Path(settings.data) / 'test'
    if not (pictures or settings.images or test.is_dir() or Path(settings.data).is_dir()):
        raise InputError(f'{test}: expected a folder of pictures, found nothing; name pictures')
    files = find_pictures(pictures or [settings.images or (test if test.is_dir() else test.parent)])
    name = path.parent.name if path.name == BEST else path.stem
    about, folder = model.about, settings.output or Path('predicted') / name
    learned = [about.settings.get(which) for which in ('images', 'labels')]
    learned = [path for path in learned if isinstance(path, str)]  # a file may say anything
    masks = Masks(folder, files, about.classes, settings, learned)
    count = run(model, jobs_of(model, [(file, None) for file in files]), [masks], settings.flip)
    print(f'{count} masks in {masks.folder}/')


def evaluate(settings, flags, model=None, path=None):
    """Print and write the scores of a model, or of the masks that flags name; perhaps a report."""
    target, page = flags.get('scores', 'scores.json'), flags.get('report')
    for written in filter(None, (target, page)):
        check_target(written)
    about = model and model.about
    if 'val_split' not in flags:  # of what it was trained on, what it was validated on; else all
        learned = about.settings if about else {}
        same = all(learned.get(k) == getattr(settings, k) for k in ('data', 'images', 'labels'))
        share, seed = learned.get('val_split'), learned.get('seed')
        same &= isinstance(share, float) and 0 <= share < 1 and isinstance(seed, int)
        kept = {'val_split': share, 'seed': seed} if same else {'val_split': 0}
        settings = replace(settings, **kept)
    data = load(settings, classes=about and about.classes, prefer=about and about.formats)
    if data.errors:
        raise InputError(data.errors[0])
    (split, pairs), masks = data.scored(), flags.get('masks')
    page = report.Report(page, data.classes) if page else None
    each = page and page.add
    if model:
        score = Score(data.classes, each)
        run(model, jobs_of(model, pairs, data.formats), [score], settings.flip)
        counts = score.counts
    else:
        counts = metrics.evaluate_masks(masks, pairs, data.classes, data.formats, each)
    about = dict(split=split, images=len(pairs), of=str(masks or path), flip=settings.flip)
    _conclude(counts, data.classes, about, target, page)


def _conclude(counts, classes, about, path, page, settings=None, history=None):
    """Print the table of scores and what it warns of; write scores.json and the report."""
    what = '' if about['split'] == 'test' else ' (not a test score)'
    print(f'{about["of"]} on the {about["split"]} split, {about["images"]} images{what}')
    print(metrics.format_scores(metrics.scores(counts), classes))
    lines = metrics.warnings(counts, classes, (history or {}).get('val_loss', ()))
    for line in lines:
        print(f'Note: {line}')
    metrics.write_scores(path, counts, classes, **about)
    if page:
        shown = asdict(settings) if settings else {'scored': about['of']}
        page.write(counts, shown, versions(), history, about['split'], lines)
