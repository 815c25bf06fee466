"""The command line: arguments to Settings, mistakes in one line, the exit status."""

import argparse
import dataclasses
import difflib
import os
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import seg
from seg import augment, settings
from seg.files import InputError
from seg.runs import find_run
from seg.settings import FIELDS, FLAGS, Settings, file_name

DATA, FITTING = (
    FLAGS[: FLAGS.index('filters')],
    FLAGS[FLAGS.index('filters') : FLAGS.index('model')],
)
JUDGED = [name for name in DATA if name not in ('resize', 'crop')]
TILES = ['flip', 'tile', 'overlap']
MASKS = ['model', 'output', 'save', 'opacity', 'side_by_side', *TILES]
SWITCH, PAGE = dict(action='store_true'), file_name('.png', '.jpg')
FILM = 'a video, or 0, the first camera, until Ctrl-C, becomes a video of overlays, without sound, '
FILM += 'and where --save is given also masks of its frames'
VERBS = {  # name: (what it does, the settings that it takes, whether it begins a run)
    'train': ('train only', [*DATA, *FITTING, 'model'], True),
    'preview': ('draw what augmentations do to image and label', [*DATA, *FITTING], True),
    'predict': ('paint the classes of pictures and videos', ['data', 'images', *MASKS], False),
    'evaluate': ('score a model, or masks of any program', [*JUDGED, 'model', *TILES], False),
    'next': (
        'which pictures to label next: of high entropy (Settles 2009), no two alike (core-sets)',
        ['model', *TILES],
        False,
    ),
    'check': ('what a data set holds, and whether it is fit to train on', JUDGED, False),
    'sample': ('the whole job on street scenes, drawn into sample/', [*FITTING, *MASKS], True),
    'download': ('fetch CamVid into CamVid/ (about 200 MB) and verify it', ['data'], False),
}
RUN = {  # of those that begin a run
    '--config': dict(metavar='FILE', help="another run's settings.json; flags go over it"),
    '--resume': dict(nargs='?', const='', metavar='RUN', help='go on with the last, or log/RUN'),
}
FOLDER = {'folder': dict(nargs='?', help='same as --data')}
OWN = {  # of one verb alone
    'train': FOLDER,
    'preview': FOLDER
    | {
        '--batches': SWITCH | dict(help='instead, the first batches that training will see'),
        '--page': dict(
            type=PAGE, metavar='FILE', default='preview.png', help='default preview.png'
        ),
    },
    'predict': {
        'pictures': dict(nargs='*', default=[])
        | dict(help='files, folders, globs (default the test ones); ' + FILM),
        '--fps': dict(type=settings.number(float, 0.01, 1000), metavar='X')
        | dict(help='the pictures of a folder are frames, X a second, of a video'),
    },
    'evaluate': FOLDER
    | {
        '--masks': dict(metavar='FOLDER', help='score these masks instead of a model'),
        '--scores': dict(type=file_name('.json'), metavar='FILE', help='default scores.json'),
        '--report': dict(nargs='?', const='report.html', metavar='FILE', help='also write the page')
        | dict(type=file_name('.html')),
    },
    'next': {
        'pictures': dict(nargs='+', help='not labelled yet: files, folders, globs'),
        '--count': dict(type=settings.COUNT, default=20, metavar='N')
        | dict(help='how many to choose (default 20); they are written to next.csv, too'),
    },
    'check': FOLDER
    | {
        '--json': SWITCH | dict(help='the result for programs'),
        '--write-classes': dict(metavar='FILE', help='write the class table found, to edit'),
        '--convert': dict(metavar='OUT', help="write all of it to OUT in CamVid's layout"),
        '--repair': dict(metavar='OUT', help='write clean index PNGs of all labels to OUT'),
        '--tolerance': dict(type=settings.number(int, 0, 255), default=16, metavar='N')
        | dict(help='repair: how far a colour may be from its class (default 16)'),
    },
    'download': {'--url': dict(help='another copy of the archive')},
}


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line on standard error, with the nearest name; exit status 2."""

    def parse_args(self, argv=None):
        argv = sys.argv[1:] if argv is None else argv
        for before, word in zip(['a name', *argv], argv):
            if not word.strip() or word.startswith('--') and word[-1] == '=':  # an unset variable
                self.error(f'nothing stands for {word.rstrip("=") or before}')
        for word in argv:  # before argparse takes a misspelt flag's value for a verb
            if word.startswith('--') and word.split('=')[0] not in self.words():
                self.error(f'no such flag: {word}')
        if argv and os.path.isdir(argv[0]) and argv[0] not in VERBS:
            argv = ['--data', *argv]
        return super().parse_args(argv)

    def words(self):
        """Every flag, verb and choice, those of the verbs too."""
        words = set(self._option_string_actions)
        for action in self._actions:
            words |= {str(c) for c in action.choices or ()}
            if isinstance(action, argparse._SubParsersAction):
                words |= {w for sub in set(action.choices.values()) for w in sub.words()}
        return words

    def error(self, message):
        wrong = message.split("'")[1] if 'invalid choice' in message else message.split()[-1]
        near = difflib.get_close_matches(wrong, self.words(), 1)
        hint = f'did you mean {near[0]}?' if near else 'see --help'
        self.exit(2, f'main.py: {message}; {hint}\n')


def make_parser(presets, doc):
    """The whole command line."""
    common = dict(allow_abbrev=False, argument_default=argparse.SUPPRESS)
    raw = dict(formatter_class=argparse.RawDescriptionHelpFormatter, description=doc)
    p = OneLineParser('main.py', epilog=f'augmentations:\n{augment.help_text()}', **raw, **common)
    title = 'verbs (none: train, then predict, then evaluate)'
    verbs = p.add_subparsers(dest='verb', metavar='VERB', parser_class=OneLineParser, title=title)
    parsers = {'': (p, FLAGS, True)}
    for name, (text, names, begins) in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text, **common)
        parsers[name] = verb, names, begins
    for name, (parser, names, begins) in parsers.items():
        settings.add_flags(parser, names)
        if begins:
            text = 'set of defaults (default article; with FOLDER or --minutes auto, which plans)'
            parser.add_argument('--preset', choices=presets, help=text)
        for flag, options in (OWN.get(name, {}) | (RUN if begins else {})).items():
            parser.add_argument(flag, **options)
    return p


def resume(flags):
    """(run folder, Settings) to go on with; InputError where a flag given now says otherwise."""
    run = find_run(flags.get('log', Settings.log), flags['resume'])
    old = Settings(**settings.read_settings(run / 'settings.json'))
    given = {k: v for k, v in flags.items() if k in FIELDS and v != getattr(old, k)}
    fixed = [k for k in given if not FIELDS[k].metadata['later']]
    if fixed:
        differ = '; '.join(f'{k} is {getattr(old, k)!r} there and {given[k]!r} here' for k in fixed)
        mend = 'Leave these flags out, or start anew without --resume'
        raise InputError(f'{run} can not go on with other settings: {differ}. {mend}')
    new = dataclasses.replace(old, **given)
    if new.epochs > old.epochs:
        what = f'the {new.schedule} schedule now runs over all {new.epochs}'
        print(f'{run}: {new.epochs} epochs instead of {old.epochs}; {what}')
    return run, new


class Lasting:
    """A stream for as long as somebody reads it (`| head -1`), then nowhere: the job goes on.
    lost: the first error but that, such as of a full disk."""

    def __init__(self, stream):
        self.stream, self.lost = stream, None
        if hasattr(stream, 'reconfigure'):  # Chinese names on any terminal; Jupyter's has no such
            stream.reconfigure(encoding='utf-8', errors='replace')

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def _try(self, method, *args):
        try:
            return method(*args)
        except OSError as e:
            self.lost = self.lost or (None if isinstance(e, BrokenPipeError) else e)
            with open(os.devnull, 'w') as nowhere:  # for C++, too, and what is still in its buffer
                os.dup2(nowhere.fileno(), self.stream.fileno())
            return method(*args)

    def write(self, text):
        return self._try(self.stream.write, text)

    def flush(self):
        self._try(self.stream.flush)


def run(argv, presets, verbs, doc):
    """Run one command line; the exit status. verbs: {name or None: f(settings, flags, run)}."""
    seg.started = time.monotonic()
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        status = _run(argv, presets, verbs, doc)
        out.flush()
        if out.lost:
            print(f'main.py: its output could not be written ({out.lost.strerror})', file=err)
        err.flush()
    return status or 2 * bool(out.lost)


def _run(argv, presets, verbs, doc):
    try:
        flags = vars(make_parser(presets, doc).parse_args(argv))
    except SystemExit as e:
        return e.code
    if note := settings.version_note():
        print(note, file=sys.stderr)
    verb, folder = flags.get('verb'), None
    place = flags.pop('folder', None)
    if verb == 'sample':  # on these data whatever the preset
        drawn = presets['sample']
        flags = {'data': drawn['data'], 'model': drawn['model'], 'preset': 'sample'} | flags
    try:
        if place and ('data' in flags or 'images' in flags):
            other = '--images' if 'images' in flags else '--data'
            raise InputError(f'{place} and {other}: expected one of them; what is {place} for?')
        flags |= {'data': place} if place else {}
        said = {'preset', 'config', 'resume', 'steps', 'epochs'} & {*flags}
        if verb in (None, 'train') and not said and {'data', 'images', 'minutes'} & {*flags}:
            flags['preset'] = 'auto'
        if 'resume' in flags:
            folder, chosen = resume(flags)
        else:
            chosen = settings.resolve(flags, presets)
        chosen.log.encode()  # TensorFlow writes to names of UTF-8 alone
        return verbs[verb](chosen, flags, folder) or 0
    except InputError as e:
        from seg.classes import shown  # here: --help answers without NumPy

        if 'keras' in sys.modules:
            print()  # below a progress bar
        print(f'main.py: {shown(str(e), 2000)}', file=sys.stderr)  # with names from anybody's file
        return 2
    except UnicodeEncodeError as e:  # a path of other bytes where text is wanted
        name = ascii(e.object)[:200]
        print(f'main.py: {name}: expected a name of UTF-8; rename it', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nmain.py: stopped', file=sys.stderr)
        return 130


def quiet_tensorflow():
    """Import TensorFlow without its chatter about missing GPUs, which looks like an error, and
    Keras; InputError where Keras does not start with a user's settings."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the C++ side writes to the descriptor itself
    try:
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices('GPU')
        tf.zeros(1)
    except (ImportError, ValueError) as e:  # of another backend, or of a keras.json
        found = f'KERAS_BACKEND={os.environ["KERAS_BACKEND"]} ({" ".join(str(e).split())[:150]})'
        raise InputError(f'Keras does not start: {found}; unset it, or mend keras.json') from None
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    found = keras.backend.backend()
    if found not in ('tensorflow', 'jax'):
        raise InputError(f'KERAS_BACKEND={found}: expected tensorflow or jax; unset it')
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)  # "HDF5 is legacy", said at every save
    tf.get_logger().setLevel('ERROR')  # "retracing", of several networks one after another
