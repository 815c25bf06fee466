"""A multi-class U-Net on CamVid: train, predict, evaluate.

    python main.py                     the article's job: train on CamVid/, predict its test images
    python main.py sample              the same on drawn street scenes, in minutes
    python main.py predict photo.jpg   paint classes with the trained model
"""

import argparse
import difflib
import json
import os
import sys
from pathlib import Path

AUG_ARGS = dict(
    rotation_range=0.2, width_shift_range=0.05, height_shift_range=0.05, shear_range=0.05,
    zoom_range=0.05, horizontal_flip=True, vertical_flip=True, fill_mode='nearest',
)  # fmt: skip
FLIP_ARGS = dict(horizontal_flip=True, zoom_range=0.1, brightness_range=(0.8, 1.2))

# A preset is a set of defaults; any flag overrides it.
ARTICLE = dict(
    data='CamVid', size=None, num_class=13, filters=64, batch_norm=True, fusion='concat',
    activation=None, loss=None, weights=None, batch_size=2, steps=100, epochs=20,
    learning_rate=1e-3, seed=1, aug_dict=AUG_ARGS, model='camvid.hdf5', output='CamVid/testpred',
    log='log',
)  # fmt: skip
PRESETS = {
    'article': ARTICLE,
    'sample': ARTICLE | dict(
        data='sample', filters=16, batch_size=4, steps=60, epochs=8, learning_rate=2e-3,
        aug_dict=FLIP_ARGS, model='sample.hdf5', output='sample/testpred',
    ),
}  # fmt: skip


# ---------------------------------------------------------------------------- arguments


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line on standard error, with the nearest name; exit status 2."""

    def error(self, message):
        wrong = message.split("'")[1] if 'invalid choice' in message else message.split()[-1]
        names = list(self._option_string_actions) + [
            c for a in self._actions for c in (a.choices or ()) if isinstance(c, str)]  # fmt: skip
        near = difflib.get_close_matches(wrong, names, 1)
        hint = f'did you mean {near[0]}?' if near else 'see --help'
        self.exit(2, f'{self.prog}: {message}; {hint}\n')


def number(kind, low, high):
    def parse(text):
        value = kind(text)
        if not low <= value <= high:  # also refuses nan
            raise argparse.ArgumentTypeError(f'expected {low} to {high}, got {text}')
        return value

    parse.__name__ = kind.__name__
    return parse


def height_width(text):
    try:
        height, width = (int(side) for side in text.lower().split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected HEIGHTxWIDTH as in 360x480, got {text}') from None
    if not (16 <= height <= 8192 and 16 <= width <= 8192):
        raise argparse.ArgumentTypeError(f'expected sides of 16 to 8192 pixels, got {text}')
    return height, width


def parser():
    def group(title, *flags):
        part = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        arguments = part.add_argument_group(title)
        for name, options in flags:
            arguments.add_argument(name, **options)
        return part

    a = ARTICLE
    data = group(
        'data',
        ('--data', dict(metavar='FOLDER', help='folder with train, trainannot, val, valannot, '
                        f'test[, testannot]; only read (default {a["data"]})')),
        ('--num-class', dict(type=number(int, 1, 255), metavar='N',
                             help=f'number of classes (default {a["num_class"]}, CamVid\'s)')),
        ('--size', dict(type=height_width, metavar='HxW',
                        help="train at this size (default the files' own)")),
    )  # fmt: skip
    fitting = group(
        'network and training',
        ('--preset', dict(choices=PRESETS, help='set of defaults (default article)')),
        ('--filters', dict(type=number(int, 1, 1024), metavar='N', help='channels of the first '
                           f'level (default {a["filters"]}; 16 is 12 times faster)')),
        ('--no-batch-norm', dict(action='store_false', dest='batch_norm',
                                 help='leave batch normalisation out')),
        ('--fusion', dict(choices=('concat', 'add'), help='concat: U-Net (default); add: as FCN')),
        ('--activation', dict(choices=('softmax', 'relu', 'sigmoid'), help='of the output')),
        ('--loss', dict(choices=('categorical_crossentropy', 'binary_crossentropy', 'mse', 'rmse',
                                 'focal', 'dice'), help='default categorical_crossentropy')),
        ('--batch-size', dict(type=number(int, 1, 1024), metavar='N',
                              help=f'images a step (default {a["batch_size"]})')),
        ('--steps', dict(type=number(int, 1, 10**6), metavar='N',
                         help=f'steps an epoch (default {a["steps"]})')),
        ('--epochs', dict(type=number(int, 1, 10**6), metavar='N',
                          help=f'default {a["epochs"]}')),
        ('--learning-rate', dict(type=number(float, 0, 1e9), metavar='X',
                                 help=f'of Adam (default {a["learning_rate"]})')),
        ('--seed', dict(type=number(int, 0, 2**32 - 1), metavar='N', help='default 1')),
        ('--weights', dict(metavar='FILE', help='start from the weights of this model')),
        ('--resume', dict(nargs='?', const='', metavar='RUN',
                          help='go on with the last run, or with log/RUN')),
        ('--log', dict(metavar='FOLDER', help='TensorBoard and run files (default log)')),
    )  # fmt: skip
    model = group('files', ('--model', dict(
        metavar='FILE', help=f'the trained model (default {a["model"]})')))  # fmt: skip
    output = group('masks', ('--output', dict(
        metavar='FOLDER', help=f'where masks go (default {a["output"]}/ after a training, '
        'predicted/ for pictures of your own)')))  # fmt: skip

    p = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[data, fitting, model, output], argument_default=argparse.SUPPRESS)  # fmt: skip
    verbs = p.add_subparsers(dest='verb', metavar='VERB', parser_class=OneLineParser,
                             title='verbs (none: train, then predict, then evaluate)')  # fmt: skip
    for verb, text, parents in (
        ('train', 'train only', [data, fitting, model]),
        ('predict', 'paint the classes of pictures', [data, model, output]),
        ('evaluate', 'score a model against labels', [data, model]),
        ('sample', 'draw street scenes into sample/ and do the whole job on them',
         [fitting, model, output]),
    ):  # fmt: skip
        sub = verbs.add_parser(verb, help=text, description=text, parents=parents,
                               argument_default=argparse.SUPPRESS)  # fmt: skip
        if verb == 'predict':
            sub.add_argument('pictures', nargs='*', default=[],
                             help='files, folders or globs (default the test images of --data)')  # fmt: skip
    return p


def resolve(flags):
    """Flags given on the command line, over their preset."""
    name = flags.get('preset') or ('sample' if flags.get('verb') == 'sample' else 'article')
    settings = PRESETS[name] | {k: v for k, v in flags.items() if k in ARTICLE}
    return settings | {'preset': name}


# ---------------------------------------------------------------------------- the story


def main(argv=None):
    """Run one command line; returns the exit status."""
    sys.stdout.reconfigure(encoding='utf-8', errors='replace')  # Chinese names on any terminal
    try:
        flags = vars(parser().parse_args(argv))
    except SystemExit as e:
        return e.code
    from labels import InputError  # from here on a little slower than --help

    warn_of_versions()
    verb = flags.get('verb')
    settings = resolve(flags)
    try:
        if verb == 'predict':
            predict(settings, flags['pictures'], flags.get('output'))
        elif verb == 'evaluate':
            evaluate(settings)
        else:
            if verb == 'sample':
                draw_sample(settings)
            train(settings, flags)
            if verb != 'train':
                test = Path(settings['data']) / 'test'
                if test.is_dir():
                    predict(settings, [test], settings['output'])
                evaluate(settings)
                print(f'Pictures: {settings["output"]}/ and {settings["output"]}/overlay/. Curves: '
                      f'tensorboard --logdir {settings["log"]}')  # fmt: skip
    except InputError as e:
        print(f'main.py: {e}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nmain.py: stopped', file=sys.stderr)
        return 130
    return 0


def split_pairs(settings, split):
    from labels import pair_files

    data = Path(settings['data'])
    return pair_files(data / split, data / f'{split}annot')


def train(settings, flags):
    from labels import InputError, class_table

    data = Path(settings['data'])
    if not data.is_dir() or not (data / 'train').is_dir():
        raise InputError(f'{data}: expected the folders train, trainannot, val, valannot, found '
                         'none; put CamVid there, name your data with --data, or try '
                         '`python main.py sample`')  # fmt: skip
    train_files, val_files = split_pairs(settings, 'train'), split_pairs(settings, 'val')
    quiet_tensorflow()
    from datapre import Pairs
    from train import Interrupted, fit, new_run

    classes = class_table(settings['num_class'])
    two_class = settings['num_class'] <= 2
    pairs = Pairs(train_files, classes, settings['size'], two_class)
    val_pairs = Pairs(val_files, classes, pairs.size, two_class)
    print(f'{len(pairs)} training and {len(val_pairs)} validation images of '
          f'{pairs.size[0]}x{pairs.size[1]}, {settings["num_class"]} classes')  # fmt: skip
    run = new_run(settings['log'], settings['preset'], settings, versions())
    try:
        fit(settings, pairs, val_pairs, run)
    except Interrupted:
        print(f'\nStopped. Go on with: python main.py --resume {run}')
        raise KeyboardInterrupt from None


def predict(settings, pictures, output):
    files = find_pictures(pictures or [Path(settings['data']) / 'test'])
    quiet_tensorflow()
    from model import load_model
    from predict import predict_files

    output = output or (settings['output'] if not pictures else 'predicted')
    count = predict_files(load_model(settings['model']), files, output)
    print(f'{count} masks in {output}/, overlays in {output}/overlay/')


def evaluate(settings):
    split = 'test' if (Path(settings['data']) / 'testannot').is_dir() else 'val'
    files = split_pairs(settings, split)
    quiet_tensorflow()
    import predict
    from metrics import format_scores
    from model import load_model

    model = load_model(settings['model'])
    _, result = predict.evaluate(model, files, settings['num_class'] <= 2)
    print(f'{settings["model"]} on {len(files)} images of {settings["data"]}/{split}')
    print(format_scores(result, model.class_table))


def draw_sample(settings):
    from scenes import draw_camvid

    if not Path(settings['data']).exists():
        print(f'Drawing street scenes into {settings["data"]}/')
        draw_camvid(settings['data'], train=160, val=32, test=32, size=(120, 160), seed=0)


def find_pictures(paths):
    """Files, folders and globs -> picture files; InputError for what matches none."""
    import glob

    from labels import PICTURES, InputError, list_pictures

    files = []
    for path in map(Path, paths):
        if path.is_dir():
            files += list_pictures(path)
        elif path.is_file():
            files.append(path)
        else:
            found = [Path(f) for f in sorted(glob.glob(str(path), recursive=True))]
            found = [f for f in found if f.suffix.lower() in PICTURES]
            if not found:
                raise InputError(f'{path}: expected a picture, a folder or a glob, found nothing')
            files += found
    return files


def quiet_tensorflow():
    """Import TensorFlow without its chatter about missing GPUs, which looks like an error."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the C++ side writes to the descriptor itself
    try:
        import tensorflow as tf

        tf.config.list_physical_devices('GPU')
        tf.zeros(1)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)  # "HDF5 is legacy", said at every save


def versions():
    """{package: installed version or None} of requirements.txt."""
    return {name: found for name, found, _ in requirements()}


def requirements():
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    for line in (Path(__file__).parent / 'requirements.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            required = Requirement(line)
            try:
                yield required.name, version(required.name), required
            except PackageNotFoundError:
                yield required.name, None, required


def warn_of_versions():
    wrong = [f'{name} {found or "missing"} (tested: {required.specifier})'
             for name, found, required in requirements()
             if found is None or not required.specifier.contains(found, prereleases=True)]  # fmt: skip
    if wrong:
        print('Note: outside the tested versions: ' + ', '.join(wrong)
              + '; `pip install -r requirements.txt` mends it.', file=sys.stderr)  # fmt: skip


if __name__ == '__main__':
    sys.exit(main())
