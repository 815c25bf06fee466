"""What is made of painted pictures: masks, scores and a report, in one pass over them."""

import shutil
from dataclasses import asdict
from pathlib import Path

from seg import metrics
from seg.files import InputError, find_pictures, whole_file
from seg.report import Report, curves_figure, to_png
from seg.runs import BEST, read_progress
from seg.settings import versions
from seg.sources import load


def paint_and_score(model, data, run, settings):
    """Paint the test images of a run and score those with labels, each of them once; where the test
    images have none, the validation images are scored beside. Everything goes to the run's folder.
    """
    from seg.predict import Masks, Score, jobs_of
    from seg.predict import run as paint

    split, scored = data.scored()
    painted = data.splits.get('test') or scored
    folder, files = settings.output or run / 'masks', [image for image, _ in painted]
    masks = Masks(folder, files, data.classes, settings.opacity, settings.side_by_side)
    report = Report(run / 'report.html', data.classes)
    score = Score(data.classes, report.add)
    pairs = painted if painted is scored or split == 'test' else [*painted, *scored]
    paint(model, jobs_of(model, pairs, data.formats), [masks, score], settings.flip)
    about = {'split': split, 'images': score.images, 'of': str(run / BEST), 'flip': settings.flip}
    history = read_progress(run)['history']
    to_png(curves_figure(history), run / 'curves.png')
    _conclude(score.counts, data.classes, about, run / 'scores.json', report, settings, history)
    shown = folder
    if settings.data == 'CamVid' and not (settings.images or settings.output):
        shown = Path('CamVid/testpred')  # where the article has them
        for file in Path(folder).rglob('*.*'):
            target = shown / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target, durable=False) as beside:
                shutil.copyfile(file, beside)
    print(
        f'Masks: {shown}/, overlays: {shown}/{masks.shown.name}/, report: {run}/report.html, '
        f'curves: tensorboard --logdir {settings.log}'
    )


def paint_files(model, path, pictures, settings):
    """Masks of files, folders or globs, into predicted/<model>/ or settings.output."""
    from seg.predict import Masks, jobs_of
    from seg.predict import run as paint

    files = find_pictures(pictures or [settings.images or Path(settings.data) / 'test'])
    name = path.parent.name if path.name == BEST else path.stem
    folder = settings.output or Path('predicted') / name
    masks = Masks(folder, files, model.about.classes, settings.opacity, settings.side_by_side)
    jobs = jobs_of(model, [(file, None) for file in files])
    count = paint(model, jobs, [masks], settings.flip)
    print(f'{count} masks in {folder}/')


def evaluate(settings, flags, model=None, path=None):
    """Print the scores of a model, or of the masks that flags name; write scores.json, and the
    report where it is asked for."""
    if model:
        data = load(settings, classes=model.about.classes, prefer=model.about.formats)
    else:
        data = load(settings)
    if data.errors:
        raise InputError(data.errors[0])
    split, pairs = data.scored()
    masks, page = flags.get('masks'), flags.get('report')
    report = Report(page, data.classes) if page else None
    if model:
        from seg.predict import Score, jobs_of
        from seg.predict import run as paint

        score = Score(data.classes, report and report.add)
        paint(model, jobs_of(model, pairs, data.formats), [score], settings.flip)
        counts = score.counts
    else:
        counts = metrics.evaluate_masks(
            masks, pairs, data.classes, data.formats, report and report.add
        )
    about = {'split': split, 'images': len(pairs), 'of': str(masks or path), 'flip': settings.flip}
    _conclude(counts, data.classes, about, flags.get('scores', 'scores.json'), report)


def _conclude(counts, classes, about, path, report, settings=None, history=None):
    """Print the table of scores and what it warns of; write scores.json and the report."""
    what = '' if about['split'] == 'test' else ' (not a test score)'
    print(f'{about["of"]} on the {about["split"]} split, {about["images"]} images{what}')
    print(metrics.format_scores(metrics.scores(counts), classes))
    lines = metrics.warnings(counts, classes, (history or {}).get('val_loss', ()))
    for line in lines:
        print(f'Note: {line}')
    metrics.write_scores(path, counts, classes, **about)
    if report:
        shown = asdict(settings) if settings else {'scored': about['of']}
        report.write(counts, shown, versions(), history, about['split'], lines)
