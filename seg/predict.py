"""One stream of pictures through a network: each painted once, then written, scored, reported."""

from collections import deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from operator import length_hint
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

import seg
from seg import metrics
from seg.files import InputError, counted, is_pattern, natural
from seg.formats import MAX_PIXELS
from seg.masks import Masks
from seg.pictures import Picture, open_image
from seg.progress import Count, clear
from seg.readers import read_label
from seg.runs import BEST
from seg.settings import Settings
from seg.sizes import resize
from seg.sources import find_pictures, find_videos
from seg.tiles import Canvas, OnDisk, plan
from seg.tree import header_size

LARGE = 1 << 20  # pixels of a pass; larger ones go one after the other
# A picture to paint: file; read: -> image; truth: -> label (H, W), or None; label: its file; each:
# function(rows, columns, probabilities (h, w, n)) of the parts of one painted in tiles, or None;
# time: of a frame, seconds as a Fraction
Job = namedtuple('Job', 'file read truth label each time', defaults=[None, None])
# image (H, W, C); output: the network's (h, w, n) of it, at the network's scale, or None of tiles;
# index uint8 (H, W); of very large pictures image and index are read in parts.
Painted = namedtuple('Painted', 'job image output index')


def jobs_of(model, pairs, formats=None):
    """A Job for each (image path, label path or None); formats: see readers.recognise."""
    jobs = []
    for file, label in pairs:
        truth = partial(read_label, label, model.about.classes, formats) if label else None
        jobs.append(job_of(model, file)._replace(truth=truth, label=label))
    return jobs


def job_of(model, file, source=None):
    """A Job without a label; source: a PIL image or Raster in place of the file's."""
    file, about = Path(file), model.about
    read = partial(open_image, file, model.input_shape[-1], about.intensity, source)
    return Job(file, read, None, None)


class Whole:
    """A picture that is the network's input as a whole, by the size rule."""

    def __init__(self, job, image, rule, classes, keep):
        self.job, self.image, self.rule, self.classes, self.keep = job, image, rule, classes, keep

    def __len__(self):
        return 1

    def windows(self, image):
        yield 0, self.rule.image(image)

    def add(self, place, output):
        shape = self.image.shape
        output = self.rule.crop(output, shape)
        index = most_probable(output, shape[:2], self.classes)
        if self.keep:
            output = resize(output, shape[:2], Image.Resampling.BILINEAR).astype(self.keep)
        self.painted = Painted(self.job, self.image, output, index)


class Tiled(Canvas):
    """A picture that is painted in tiles at its own scale."""

    def __init__(self, job, image, how, classes, channels, keep):
        super().__init__(image.shape, *how, self._keep)
        self.classes, self.image, large = classes, image, isinstance(image, Picture)
        index = np.empty(self.shape, np.uint8) if not large else OnDisk(self.shape, np.uint8, None)
        size, kept = (*self.shape, channels), None
        if keep and not large:
            kept = np.empty(size, keep)
        elif keep:
            found = '{}x{} pixels of {} classes'.format(*size)
            raise InputError(f'{job.file}: {found}; leave probability out of --save')
        self.painted = Painted(job, image, kept, index)

    def _keep(self, top, left, output):
        job, _, kept, index = self.painted
        rows, columns = slice(top, top + len(output)), slice(left, left + output.shape[1])
        if job.each:
            job.each(rows, columns, output)
        if kept is not None:
            kept[rows, columns] = output
        part = np.empty(output.shape[:2], np.uint8)
        for y in range(0, len(output), 128):  # its copies of them are small
            some = output[y : y + 128]
            part[y : y + 128] = most_probable(some, some.shape[:2], self.classes)
        if isinstance(index, np.ndarray):
            index[rows, columns] = part
            return
        self.band = part if left == 0 else np.hstack([self.band, part])
        if columns.stop == self.shape[1]:
            index.append(self.band)


def paint(model, jobs, settings=Settings, keep=None, tell=lambda *_: None, lost=None):
    """Yield Painted of each job, in order.

    A picture becomes the network's input by the size rule of `model.about`; the class probabilities
    (settings.flip: their mean with those of the mirror image) become its own size again before the
    most probable is taken. Where it keeps its own size, what is larger than settings.tile is
    painted in tiles that overlap, see tiles.plan. keep: output is of this dtype and of the
    picture's size, also of tiles. Two passes are in work at a time: side by side they keep two
    cores busier than one spread over both. tell: called with how many passes a picture takes, then
    after each pass. lost: a list to which a line is added for each picture or label that cannot be
    read, and the others are painted; without it that raises InputError, which names the file.
    """
    import keras

    rule, classes = model.about.rule, model.about.classes
    alone = Lock()
    how = plan(model, settings.tile, settings.overlap) if not rule.fixed else None

    def is_large(part):  # memory for two is not there
        return part.shape[0] * part.shape[1] > LARGE

    def work(job, part):
        batch = part[None] / np.float32(np.iinfo(part.dtype).max)
        if settings.flip:
            batch = np.concatenate([batch, batch[:, :, ::-1]])
        try:
            with alone if is_large(part) else nullcontext():
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
        return (output[0] + output[1, :, ::-1]) / 2 if settings.flip else output[0]

    def sheet_of(job):
        image = job.read()
        sides = rule.input_size(image.shape)
        if how and any(side > most for side, most in zip(sides, how[0])):
            large = image.shape[0] * image.shape[1] > MAX_PIXELS  # for training's arrays, too
            used = plan(model, settings.tile, settings.overlap, True) if large else how
            return Tiled(job, image, used, classes, model.output_shape[-1], keep)
        if isinstance(image, Picture):
            found = f'{image.shape[0]}x{image.shape[1]} pixels, which this network takes shrunk'
            raise InputError(f'{job.file}: {found}; --tile paints them at their own scale')
        return Whole(job, image, rule, classes, keep)

    def parts_of(job):
        """(sheet, place, part, whether it is the last); nothing more where the picture is lost."""
        try:
            if job.truth:  # read once, for all who ask
                truth = job.truth()
                job = job._replace(truth=lambda: truth)
            sheet = sheet_of(job)
            if job.truth:
                metrics.same_size(job.file, sheet.image, job.label, truth)
            tell(len(sheet))
            for i, (place, part) in enumerate(sheet.windows(sheet.image), 1):
                yield sheet, place, part, i == len(sheet)
        except InputError as e:
            if lost is None:
                raise
            lost.append(str(e))

    if how and keras.backend.backend() == 'tensorflow':  # XLA would compile for each size
        for network in getattr(model, 'networks', [model]):
            network.jit_compile = False
    model.make_predict_function()  # once, before two threads find it missing
    # On jax a pass gives the weights' buffers away and takes them back: one at a time.
    with ThreadPoolExecutor(2 if keras.backend.backend() == 'tensorflow' else 1) as pool:
        ahead = deque()

        def finish():
            sheet, place, last, output = ahead.popleft()
            sheet.add(place, output.result())
            tell()
            return last

        for job in jobs:
            for sheet, place, part, last in parts_of(job):
                ahead.append((sheet, place, last, pool.submit(work, job, part)))
                while len(ahead) > (1 if is_large(part) else 2):
                    done = ahead[0][0]
                    if finish():
                        yield done.painted
        while ahead:
            done = ahead[0][0]
            if finish():
                yield done.painted


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


def ready(model, settings):
    """The network that paints as settings say: of any size where a tile is given."""
    if settings.tile and model.about.rule.fixed:
        from seg.modelfile import at_any_size

        return at_any_size(model)
    return model


def run(model, jobs, takers, settings=Settings):
    """Paint each job once, as settings' flip, tile and overlap say, and give it to every taker:
    function(Painted), called in order on a thread of their own, so that they hide behind the
    network. jobs: a list, or what gives them one by one, as video.Video. Pictures of a list that
    cannot be read are added to seg.skipped. Returns: number of pictures that were painted;
    InputError where that is none."""
    model, unit = ready(model, settings), getattr(jobs, 'unit', '')
    bar, waiting, lost, count = Count(length_hint(jobs), 'Painting', unit), deque(), [], 0

    def tell(passes=None):  # of a picture in many tiles each counts
        if unit:
            return
        if passes:
            bar.total += passes - 1
        else:
            bar.add()

    with ThreadPoolExecutor(1) as pool:
        keep = np.float16 if 'probability' in settings.save else None
        for painted in paint(model, jobs, settings, keep, tell, None if unit else lost):
            count += 1
            waiting.append(pool.submit(lambda p: [take(p) for take in takers], painted))
            if len(waiting) > 2:
                waiting.popleft().result()
            if unit:
                bar.add()
        while waiting:
            waiting.popleft().result()
    clear()
    if lost and not count:
        raise InputError(lost[0] + f' ({len(lost)} such pictures)' * (len(lost) > 1))
    seg.skipped.extend(lost)
    for take in takers:
        getattr(take, 'finish', int)()
    return count


def paint_files(model, path, pictures, settings, flags):
    """Masks of files, folders or globs, and videos of videos, into predicted/<model>/ or
    settings.output. flags: of the command line; with `fps` the pictures are a video's frames."""
    test = Path(settings.data) / 'test'
    if not (pictures or settings.images or test.is_dir() or Path(settings.data).is_dir()):
        found = f'{test}: expected pictures to paint, found no such folder'
        raise InputError(f'{found}; name some: python main.py predict PICTURE')
    videos, pictures = find_videos(pictures) if pictures else ([], [])
    source = pictures or [settings.images or (test if test.is_dir() else test.parent)]
    if pictures or not videos:
        files = find_pictures(source, model.input_shape[-1], model.about.paged)
    else:
        files = []
    about, folder = model.about, settings.output or Path('predicted') / name_of(path)
    learned = [about.settings.get(which) for which in ('data', 'images', 'labels')]
    learned = [path for path in learned if isinstance(path, str)]  # a file may say anything
    fps = flags.get('fps')
    if fps and videos:
        named = f'camera {videos[0]}' if isinstance(videos[0], int) else videos[0]
        raise InputError(f'--fps: expected pictures that are frames; {named} has its own rate')
    if fps:
        reels = {}
        for file in sorted(files, key=natural):
            reels.setdefault(file.parent, []).append(file)
        videos, files = [*reels.items()], []
    if videos:
        from seg.video import Films

        saved = replace(settings, save=flags.get('save', ('overlay',)))
        films = Films(model, videos, folder, saved, learned, fps)
    if files:
        masks = Masks(folder, files, about.classes, settings, learned)
        tell_shrunk(files, about.rule, settings)
        run(model, jobs_of(model, [(file, None) for file in files]), [masks], settings)
        print(f'Wrote {counted(masks.written, "mask")} to {masks.where()}')
    if videos:
        films.paint()


def name_of(path):
    """What a model's masks and exports are called: its run's name or its own; of folds, their
    run's."""
    place = path.parent if path.name == BEST else path.with_suffix('')
    while not path.exists() and is_pattern(place.name):
        place = place.parent
    return place.name or 'average'


def tell_shrunk(files, rule, settings, size_of=header_size):
    """A line where a picture has many more pixels than the network takes."""
    for file in files[:50] if rule.fixed and not settings.tile else ():
        with suppress(InputError):  # a damaged one is named where it is read
            (h, w), (height, width) = size_of(file), rule.input_size(())
            if h * w > 4 * height * width:
                line = f'Note: {file}: {h}x{w} pixels are shrunk to {height}x{width}, on which the'
                print(f'{line} network was trained; --tile {height}x{width} keeps their scale')
                return
