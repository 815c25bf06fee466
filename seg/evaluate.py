"""Scores: of a run at its end, of a model or of masks by `evaluate`; table, scores.json, report."""

import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np

from seg import metrics, report
from seg.files import InputError, check_target, copy_whole, counted, read_json
from seg.masks import Masks, output_of
from seg.predict import jobs_of, run
from seg.runs import BEST, PLAN, read_progress
from seg.settings import effective, versions
from seg.sources import load
from seg.suspects import LOOK, Suspects

CURVES = 'curves.png'  # of a run
SURE = 0.8  # pixel accuracy below which a network contradicts right labels most, see bench/notes.md
NAMED = 'data images labels val_images val_labels train_list val_list'.split()  # where data are


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
    if history:
        report.to_png(report.curves_figure(history), folder / CURVES)
    about = dict(split=split, images=score.images, of=str(folder / BEST), flip=settings.flip)
    about |= dict(data=data.where)
    target = folder / 'scores.json'
    conclude(score.counts, data.classes, about, target, page, look, model.about, history)
    print(f'Wrote {counted(masks.written, "mask")} to {masks.where()}')
    if settings.data == 'CamVid' and not (settings.images or settings.output or settings.fold):
        how = dict(copy_function=copy_whole, dirs_exist_ok=True)
        try:
            print(f'Wrote a copy of them to {shutil.copytree(shown, "CamVid/testpred", **how)}/')
        except (OSError, InputError) as e:  # the run has them all the same
            why = ' '.join(str(e).split())[:200]
            print(f'Note: no copy of the masks in CamVid/testpred ({why})')


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
        return conclude(counts, data.classes, about, target, page, look, networks[0].about)
    if model:
        score, look = Score(data.classes, each), Suspects(data.classes)
        run(model, look.watch(jobs_of(model, pairs, data.formats)), [score, look], settings)
        counts, images = score.counts, score.images
    else:
        look, images = None, len(pairs)
        counts = metrics.evaluate_masks(masks, pairs, data.classes, data.formats, each)
    if not np.sum(counts):
        found = f'{data.where}: no labelled pixel is of a class that {masks or path} has'
        raise InputError(f'{found}; score it on data of its classes')
    found = dict(split=split, images=images, of=str(masks or path), flip=settings.flip)
    found |= dict(data=data.where)
    conclude(counts, data.classes, found, target, page, look, model and model.about)


def data_of(networks, settings, flags):
    """The DataSet to score these networks on, as they know its classes and formats. InputError
    where it is not fit."""
    about = networks[0].about if networks else None
    learned = {name: about.settings.get(name) for name in NAMED} if about else {}
    names = all(isinstance(value, str | None) for value in learned.values())  # a file may say any
    if about and names and learned['data'] and not {*NAMED} & {*flags}:
        if Path(learned['images'] or learned['data']).exists():  # by default those of its training
            settings = replace(settings, **learned)
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
    same = learned and all(s.get(k) == getattr(settings, k) for s in learned for k in NAMED)
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


def conclude(counts, classes, about, path, page, look, network=None, history=None):
    """Print the table of scores and what it warns of; write scores.json, suspects.csv and the
    report. look: Suspects, or None of masks, which have no probabilities; network: About of what is
    scored; history: of the run that ends with this."""
    what = '' if about['split'] == 'test' else ' (not a test score)'
    print(
        f'{about["of"]} on the {about["split"]} split, {counted(about["images"], "picture")}{what}'
    )
    print(metrics.format_scores(result := metrics.scores(counts), classes))
    lines = metrics.warnings(counts, classes, (history or {}).get('val_loss', ()))
    if look and look.entries and result['accuracy'] < SURE:
        right = f'{100 * result["accuracy"]:.0f} % of the pixels'
        lines.append(f'Labels to look at: of a network right on {right} most are its own errors')
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
