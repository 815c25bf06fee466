"""One stream of pictures through a network: each painted once, then written, scored, reported."""

import shutil
import statistics
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
from seg import metrics, report
from seg.files import InputError, check_target, copy_whole, counted, is_pattern, natural, read_json
from seg.formats import MAX_PIXELS
from seg.masks import Masks, output_of
from seg.progress import Count, clear
from seg.readers import Picture, open_image, read_label
from seg.runs import BEST, PLAN, read_progress
from seg.settings import Settings, effective, versions
from seg.sizes import resize
from seg.sources import find_pictures, find_videos, load
from seg.suspects import LOOK, Suspects
from seg.tiles import Canvas, OnDisk, plan
from seg.tree import header_size

CURVES = 'curves.png'  # of a run
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


class Score:
    """Sums the confusion count of every picture with a label, at the label's own size.

    each: also called with (name, image uint8, truth, index) of each, as Report.add.
    """

    def __init__(self, classes, each=None):
        self.classes, self.each, self.counts, self.images = classes, each, 0, 0

    def __call__(self, painted):
        job = painted.job
        if job.truth is None:
            return
        index = np.asarray(painted.index)
        truth = job.truth()
        metrics.same_size(job.file, index, job.label, truth)
        self.counts = self.counts + metrics.confusion(truth, index, self.classes)
        self.images += 1
        if self.each:
            self.each(job.file.name, report.as_rgb(painted.image[:, :]), truth, index)


def paint_and_score(model, data, folder, settings):
    """Paint the test images of a run and score those with labels, each of them once; where the test
    images have none, the validation images are scored beside. All of it goes to the run's folder,
    CamVid's masks to CamVid/testpred too, where the article has them."""
    split, scored = data.scored()
    painted = data.splits.get('test') or scored
    shown = output_of(settings) or folder / 'masks'
    masks = Masks(shown, [image for image, _ in painted], data.classes, settings)
    page = report.Report(folder / 'report.html', data.classes)
    score, look = Score(data.classes, page.add), Suspects(data.classes)
    pairs = painted if painted is scored or split == 'test' else [*painted, *scored]
    jobs = look.watch(jobs_of(model, pairs, data.formats))
    run(model, jobs, [masks, score, look], settings)
    history = read_progress(folder)['history']
    report.to_png(report.curves_figure(history), folder / CURVES)
    about = dict(split=split, images=score.images, of=str(folder / BEST), flip=settings.flip)
    about |= dict(data=data.where)
    target = folder / 'scores.json'
    _conclude(score.counts, data.classes, about, target, page, look, model.about, history)
    print(f'Wrote {counted(masks.written, "mask")} to {masks.where()}')
    if settings.data == 'CamVid' and not (settings.images or settings.output or settings.fold):
        how = dict(copy_function=copy_whole, dirs_exist_ok=True)
        try:
            print(f'Wrote a copy of them to {shutil.copytree(shown, "CamVid/testpred", **how)}/')
        except (OSError, InputError) as e:  # the run has them all the same
            why = ' '.join(str(e).split())[:200]
            print(f'Note: no copy of the masks in CamVid/testpred ({why})')


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
    if fps:
        reels = {}
        for file in sorted(files, key=natural):
            reels.setdefault(file.parent, []).append(file)
        videos, files = [*videos, *reels.items()], []
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


def evaluate(settings, flags, model=None, path=None):
    """Print and write the scores of a model, or of the masks that flags name; perhaps a report."""
    target, page = flags.get('scores', 'scores.json'), flags.get('report')
    beside = model and Path(target).with_name(LOOK)
    for written in filter(None, (target, page, beside)):
        check_target(written)
    networks = getattr(model, 'networks', [model] if model else [])
    data = data_of(networks, settings, flags)
    (split, pairs), masks = data.scored(), flags.get('masks')
    page = report.Report(page, data.classes) if page else None
    each = page and page.add
    apart = len(networks) > 1 and data.folds and split != 'test'
    if len(networks) > 1:
        how = 'network that has not seen it' if apart else 'mean of them'
        print(f'{len(networks)} networks: each picture is scored by the {how}')
    if apart:
        for file, network in zip(model.files, networks):
            _refuse_moved(file, data.folds[network.about.settings['fold'] - 1][1])
        look = Suspects(data.classes)
        counts, about = out_of_fold(networks, data, each, look, settings)
        about |= dict(of=str(path), data=data.where)
        return _conclude(counts, data.classes, about, target, page, look, networks[0].about)
    if model:
        score, look = Score(data.classes, each), Suspects(data.classes)
        run(model, look.watch(jobs_of(model, pairs, data.formats)), [score, look], settings)
        counts, images = score.counts, score.images
    else:
        look, images = None, len(pairs)
        counts = metrics.evaluate_masks(masks, pairs, data.classes, data.formats, each)
    found = dict(split=split, images=images, of=str(masks or path), flip=settings.flip)
    found |= dict(data=data.where)
    _conclude(counts, data.classes, found, target, page, look, model and model.about)


def data_of(networks, settings, flags):
    """The DataSet to score these networks on, as they know its classes and formats. InputError
    where it is not fit."""
    about = networks[0].about if networks else None
    if 'val_split' not in flags:  # of what it was trained on, what it was validated on; else all
        settings = replace(settings, **_validated_on(networks, settings))
    settings = replace(settings, size=(16, 16))  # nothing is trained here: any will do
    data = load(settings, classes=about and about.classes, prefer=about and about.formats)
    bad = {what for what in data.looked.values() if isinstance(what, str)}  # a model skips them
    for line in data.errors:
        if not (about and line in bad):
            raise InputError(line)
    return data.in_fold(about.settings['fold']) if data.folds and len(networks) == 1 else data


def _validated_on(networks, settings):
    """The settings by which the pictures that `settings` name fall apart as they did when these
    networks were trained on them; of other pictures all are one part."""
    learned = [network.about.settings for network in networks]
    named = 'data images labels val_images val_labels train_list val_list'.split()
    same = learned and all(s.get(k) == getattr(settings, k) for s in learned for k in named)
    how = [(s.get('val_split'), s.get('seed'), s.get('folds')) for s in learned]
    if not same or any(other != how[0] for other in how):
        return {'val_split': 0}
    share, seed, folds = how[0]
    numbers = [s.get('fold') for s in learned]
    fits = isinstance(share, float) and 0 <= share < 1 and isinstance(seed, int)
    if folds is not None:  # a file may say anything
        fits &= all(isinstance(n, int) for n in (folds, *numbers)) and 2 <= folds <= 20
        fits = fits and {*numbers} <= {*range(1, folds + 1)} and len({*numbers}) == len(numbers)
    return {'val_split': share, 'seed': seed, 'folds': folds} if fits else {'val_split': 0}


def _refuse_moved(file, part):
    """InputError where a fold was validated on other pictures than those of `part`."""
    known, held = file.parent / 'data.json', {str(path) for pair in part for path in pair}
    then = read_json(known, 1 << 30) if known.exists() else dict.fromkeys(held, 'val')
    if {name for name, what in then.items() if str(what).startswith('val')} != held:
        found = f'{file}: expected the pictures of its training, found others'
        raise InputError(f'{found}; restore them, or --val-split 0 scores the mean on all of these')


def out_of_fold(networks, data, each, look, settings):
    """(confusion count of every picture by the network of whose fold it is, {'split', 'images',
    'folds': the mIoU of each, 'mean', 'deviation', 'flip'}), a network after another."""
    counts, images, numbers = [], 0, []
    for network in networks:
        numbers.append(network.about.settings['fold'])
        pairs = data.folds[numbers[-1] - 1][1]
        score = Score(data.classes, each)
        jobs = look.watch(jobs_of(network, pairs, data.formats))
        images += run(network, jobs, [score, look], settings)
        counts.append(score.counts)
    found = [float(metrics.scores(count)['miou']) for count in counts]
    known = [miou for miou in found if miou == miou] or [0.0]  # of labels without a scored pixel
    mean, spread = statistics.mean(known), statistics.stdev(known) if len(known) > 1 else 0.0
    shown = ', '.join(f'{i}: {100 * miou:.1f}' for i, miou in zip(numbers, found))
    print(f'mIoU of folds {shown}; mean {100 * mean:.1f}, standard deviation {100 * spread:.1f} %')
    about = dict(split='out of fold', images=images, flip=settings.flip, mean=mean)
    folds = [miou if miou == miou else None for miou in found]
    return sum(counts), about | dict(deviation=spread, folds=folds)


def _conclude(counts, classes, about, path, page, look, network=None, history=None):
    """Print the table of scores and what it warns of; write scores.json, suspects.csv and the
    report. look: Suspects, or None of masks, which have no probabilities; network: About of what is
    scored; history: of the run that ends with this."""
    what = '' if about['split'] == 'test' else ' (not a test score)'
    print(
        f'{about["of"]} on the {about["split"]} split, {counted(about["images"], "picture")}{what}'
    )
    print(metrics.format_scores(metrics.scores(counts), classes))
    lines = metrics.warnings(counts, classes, (history or {}).get('val_loss', ()))
    for line in lines:
        print(f'Note: {line}')
    metrics.write_scores(path, counts, classes, **about)
    entries = look.entries if look else ()
    if look:
        look.write(Path(path).with_name(LOOK), about['split'], page and page.path)
    if page:
        head = {'Model' if network else 'Masks': about['of'], 'Data': about['data']}
        head |= {'Split': about['split']}
        facts = {'Versions': versions()}
        if network:
            titles = 'Settings of the training', 'Settings left at their defaults'
            facts = dict(zip(titles, effective(network))) | facts
        plan = path.parent / PLAN if history is not None else None  # of a run
        plan = read_json(plan).get('plan', ()) if plan and plan.is_file() else ()
        page.write(counts, head, facts, history, about['split'], lines, plan, entries)
    written = [path, *([page.path] if page else []), *([path.with_name(CURVES)] if history else [])]
    print(f'Wrote {", ".join(map(str, written))}')
