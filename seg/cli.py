"""The command line: arguments to Settings, mistakes in one line, the exit status."""

import argparse
import dataclasses
import difflib
import os
import re
import sys
import time
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import seg
from seg import augment, devices, hosts, progress, settings
from seg.files import InputError, counted, nearest_name
from seg.runs import find_run
from seg.settings import FIELDS, FLAGS, Settings, file_name

DATA, FITTING = (
    FLAGS[: FLAGS.index('filters')],
    FLAGS[FLAGS.index('filters') : FLAGS.index('model')],
)
JUDGED = [name for name in DATA if name not in ('resize', 'crop')]
SCORED = [name for name in JUDGED if name != 'size']  # a model has its own
DRAWN = ['batch_size', 'augment']
TILES = ['flip', 'tile', 'overlap']
MASKS = ['model', 'output', 'save', 'opacity', 'side_by_side', *TILES]
SWITCH, PAGE = dict(action='store_true'), file_name('.png', '.jpg')
READ = {  # what is trained, to be read; ONNX, which `export` writes, too
    '--model': dict(type=file_name('.hdf5', '.h5', '.keras', '.onnx'), metavar='FILE')
    | dict(help=f'the trained model, or its .onnx (default {Settings.model})')
}
FILM = 'a video, or 0, the first camera, until Ctrl-C, becomes a video of overlays, without sound, '
FILM += 'and where --save is given also masks of its frames'


def size_or_free(text):
    """'free', or '360x480' -> (360, 480)."""
    return text if text == 'free' else settings.height_width(text)


VERBS = {  # name: (what it does, the settings that it takes, whether it begins a run)
    'train': ('train only', [*DATA, *FITTING, 'model'], True),
    'preview': ('draw what augmentations do to image and label', [*DATA, *DRAWN], False),
    'predict': ('paint the classes of pictures and videos', ['data', 'images', *MASKS[1:]], False),
    'evaluate': ('score a model, or masks of any program', [*SCORED, *TILES], False),
    'next': ('choose which pictures to label next', TILES, False),
    'export': (
        'write a model as ONNX, LiteRT, SavedModel or a web page, once it gives what Keras gives',
        [name for name in JUDGED if name != 'size'],
        False,
    ),
    'check': ('what a data set holds; whether it is fit to train on', JUDGED, False),
    'sample': ('the whole job on street scenes, drawn into sample/', [*FITTING, *MASKS], True),
    'download': ('fetch CamVid into CamVid/ (about 200 MB) and verify it', ['data'], False),
}
RUN = {  # of those that begin a run
    '--config': dict(metavar='FILE', help='the settings.json of another run; flags go over it'),
    '--resume': dict(
        nargs='?', const='', metavar='RUN', help='go on with the last run, or log/RUN'
    ),
}
FOLDER = {'folder': dict(nargs='?', metavar='[FOLDER]', help='the data set, as --data FOLDER')}
LEARNED = {'folder': FOLDER['folder'] | dict(help='default what the model was trained on')}
HOSTS = {
    '--hosts': dict(metavar='A,B', help='train on several machines: the same command on each; jax'),
    '--process': dict(type=settings.number(int, 0, 999), metavar='N')
    | dict(help='which of --hosts this is, where the names do not tell'),
}
OWN = {  # of one verb alone
    '': HOSTS,
    'train': FOLDER | HOSTS,
    'preview': FOLDER
    | {
        '--batches': SWITCH | dict(help='draw the first batches of a training instead'),
        '--page': dict(type=PAGE, metavar='FILE', default='preview.png')
        | dict(help='where to (default preview.png)'),
        '--preset': dict(metavar='NAME', help='whose augmentations, and batches'),
        '--config': RUN['--config'],
    },
    'predict': READ
    | {
        'pictures': dict(nargs='*', default=[], metavar='[PICTURE ...]')
        | dict(help='files, folders, patterns (default the test pictures of --data); ' + FILM),
        '--fps': dict(type=settings.number(float, 0.01, 1000), metavar='X')
        | dict(help='the pictures of a folder are frames, X a second, of a video'),
    },
    'evaluate': LEARNED
    | READ
    | {
        '--masks': dict(metavar='FOLDER', help='score these masks, of any program, not a model'),
        '--scores': dict(type=file_name('.json'), metavar='FILE')
        | dict(help='where the scores go (default scores.json)'),
        '--report': dict(nargs='?', const='report.html', type=file_name('.html'), metavar='FILE')
        | dict(help='also write a page to look at (report.html)'),
    },
    'next': READ
    | {
        'pictures': dict(nargs='+', metavar='PICTURE ...')
        | dict(help='not labelled yet: files, folders, patterns'),
        '--count': dict(type=settings.COUNT, default=20, metavar='N')
        | dict(help='how many to choose (default 20); they are written to next.csv, too'),
    },
    'export': {
        'model': dict(type=settings.MODEL, nargs='?', metavar='MODEL', default=Settings.model)
        | dict(help=f'default {Settings.model}; of folds a pattern: their mean'),
        '--to': dict(choices=settings.EXPORTS, required=True, help='the format'),
        '--size': dict(type=size_or_free, metavar='HxW')
        | dict(help='of its pictures; free: any that 32 divides (default as it was trained)'),
        '--int8': SWITCH
        | dict(help='smaller, calibrated on training pictures; tells the mIoU that it loses'),
        '--output': dict(metavar='FILE', help="default the model's name, in this folder"),
        '--title': dict(metavar='TEXT', help="web: the page's heading (default the model's name)"),
        '--runtime': dict(metavar='FILE')
        | dict(help='web: what `npm pack onnxruntime-web@1.30.0` wrote (else npm fetches it)'),
    },
    'check': FOLDER
    | {
        '--json': SWITCH | dict(help='print the result as JSON, for programs'),
        '--write-classes': dict(metavar='FILE', help='write the class table found, to edit'),
        '--convert': dict(metavar='OUT', help="write the data set to OUT in CamVid's layout"),
        '--repair': dict(metavar='OUT', help='write clean labels, PNGs of class numbers, to OUT'),
        '--tolerance': dict(type=settings.number(int, 0, 255), metavar='N')
        | dict(help='of --repair: how far a colour may be from its class (default 16)'),
    },
    'download': {'--url': dict(metavar='URL', help='another copy of the archive')},
}


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line on standard error, with what may have been meant; exit status 2. verbs:
    {name: parser} of the verbs, '' of none."""

    verbs = {}

    def parse_args(self, argv=None):
        argv = sys.argv[1:] if argv is None else argv
        for before, word in zip(['the first word', *argv], argv):
            if not word.strip() or word.startswith('--') and word[-1] == '=':  # an unset variable
                flag = word.rstrip('= ') or before
                self.error(f'{flag}: expected a value, found nothing; is a variable unset?')
        verb = next((word for word in argv if word in self.verbs), '')
        for flag in (word.split('=')[0] for word in argv if word.startswith('--')):
            if not any(p.has(flag) for p in self.verbs.values()):
                near = [n for p in (self.verbs[verb], *self.verbs.values()) for n in p.near(flag)]
                hint = f'did you mean {near[0]}?' if near else '--help-all lists them'
                self.error(f'{flag}: no such flag; {hint}')
            if not verb and not self.has(flag):  # argparse would take its value for a verb
                self.lack(flag, verb)
        if argv and os.path.isdir(argv[0]) and argv[0] not in VERBS:
            argv = ['--data', *argv]
        found, left = self.parse_known_args(argv)
        verb = getattr(found, 'verb', None) or ''
        mine = {'verb', *(action.dest for action in self.verbs[verb]._actions)}
        before = [f'--{name}'.replace('_', '-') for name in vars(found) if name not in mine]
        for word in [*before, *left][:1]:
            self.lack(word.split('=')[0], verb)
        return found

    def lack(self, word, verb):
        """Say that a verb has no such flag, but which have, or no place for a word."""
        *others, last = [name for name, p in self.verbs.items() if name and p.has(word)] or ['']
        whose = f'{", ".join(others)} and {last} have it' if others else f'{last} has it'
        what = 'no such flag of' if word[0] == '-' else 'one word too many for'
        verb = verb or 'main.py without a verb'
        self.error(f'{word}: {what} {verb}; {whose if last else "see --help"}')

    def has(self, flag):
        return flag in self._option_string_actions

    def near(self, flag):
        """The flags of this verb that may have been meant."""
        names = [name[2:] for name in self._option_string_actions if name.startswith('--')]
        word = flag[2:]  # a name and more of it, or its initials: --lr
        sure = [n for n in names if word.startswith(f'{n}-') or word == re.sub(r'\B\w|-', '', n)]
        return [f'--{n}' for n in sure or difflib.get_close_matches(word, names, 1)]

    def error(self, message):
        word = re.match(r'argument VERB: invalid choice: .(.*). \(choose from', message, re.DOTALL)
        if word and os.path.isfile(word[1]):
            message = f'{word[1]}: a file; to paint it, python main.py predict {word[1]}'
        elif word:
            hint = nearest_name(word[1], [*VERBS, *filter(os.path.isdir, os.listdir())])
            hint = hint or '; see --help'
            message = f'{word[1]}: expected a verb or a folder{hint}'
        message = re.sub("ignored explicit argument '(.*)'", r'takes no value, found \1', message)
        message = message.removeprefix('argument ')
        message = message.replace('expected one argument', 'expected a value after it')
        message = message.replace('the following arguments are required', 'expected after it')
        message = f'{self.prog[8:]}: {message}' if message.startswith('expected') else message
        self.exit(2, f'main.py: {message}\n')


class Version(argparse.Action):
    """What a question should name: this program, and what it stands on."""

    def __init__(self, **options):
        super().__init__(nargs=0, **options)

    def __call__(self, parser, *_):
        held = {'Python': sys.version.split()[0], **settings.versions()}
        held = ', '.join(f'{name} {number or "missing"}' for name, number in held.items())
        print(f'unet-camvid {settings.own_version()} ({held})')
        parser.exit()


def make_parser(presets, doc, every=False):
    """The whole command line. every: help shows the rare flags, too."""
    common = dict(allow_abbrev=False, argument_default=argparse.SUPPRESS)
    common |= dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = f'augmentations:\n{augment.help_text()}' if every else ''
    usage = 'main.py [FOLDER | VERB] [flags]'
    p = OneLineParser('main.py', usage=usage, description=doc, epilog=listed, **common)
    title = 'verbs (none: train, then predict, then evaluate)'
    how = dict(dest='verb', metavar='VERB', parser_class=OneLineParser, prog='main.py', title=title)
    verbs, parsers = p.add_subparsers(**how), {'': (p, FLAGS, True)}
    for name, (text, names, begins) in VERBS.items():
        own = [o.get('metavar', f) for f, o in OWN.get(name, {}).items() if f[0] != '-']
        how = dict(usage=' '.join(['main.py', name, *own, '[flags]']), description=text, help=text)
        how |= dict(epilog=listed if 'augment' in names else '')
        parsers[name] = verbs.add_parser(name, **how, **common), names, begins
    p.verbs = {name: parser for name, (parser, *_) in parsers.items()}
    text = f'set of defaults: {", ".join(presets)} (default article; with FOLDER auto, which plans)'
    preset = dict(type=settings.one_of(*presets), metavar='NAME', help=text)
    for name, (parser, names, begins) in parsers.items():
        text = argparse.SUPPRESS if name else 'what a question should name'
        parser.add_argument('--version', action=Version, help=text)
        rare = begins or 'augment' in names
        text = 'all flags and augmentations, the rare ones too' if rare else argparse.SUPPRESS
        parser.add_argument('--help-all', action='help', help=text)
        few = settings.COMMON if name else settings.FIRST
        settings.add_flags(parser, names, few if begins and not every else names)
        shared = {'--preset': preset} | RUN if begins else {}
        for flag, options in (OWN.get(name, {}) | shared).items():
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
        raise InputError(f'{run} cannot go on with other settings: {differ}. {mend}')
    new = dataclasses.replace(old, **given)
    if old.minutes and 'epochs' in given:
        line = f'it ends after its {old.minutes:g} minutes; start anew with more of them'
        raise InputError(f'{run}: --epochs changes nothing: {line}')
    if new.epochs > old.epochs:
        what = f'the {new.schedule} schedule now runs over all {new.epochs}'
        print(f'{run}: {new.epochs} epochs instead of {old.epochs}; {what}')
    return run, new


UNUSED = {  # flag: those beside which it would change nothing; 'no' before one: without it
    'data': ['images', 'pictures'],
    'images': ['pictures'],
    'train_list': ['images'],
    'val_list': ['val_images'],
    'model': ['masks'],
    'flip': ['masks'],
    'tile': ['masks'],
    'overlap': ['masks'],
    'json': ['repair', 'convert'],
    'write_classes': ['repair', 'convert'],
    'convert': ['repair'],
    'config': ['resume'],
    'tolerance': ['no repair'],
    'changed_data': ['no resume'],
}


def refuse_unused(flags):
    """InputError where a flag that was given would change nothing."""

    def shown(name):
        return name if name == 'pictures' else f'--{name}'.replace('_', '-')

    given = {name for name, value in flags.items() if value not in ([], False)}
    for name in given & {*UNUSED}:
        for other in UNUSED[name]:
            missing = other.removeprefix('no ')
            if missing != other and missing not in given:
                raise InputError(f'{shown(name)} changes nothing without {shown(missing)}')
            if missing == other and other in given:
                found = f'{shown(name)} changes nothing beside {shown(other)}'
                raise InputError(f'{found}; leave one of them out')


def tell_skipped():
    """The exit status; a line for each picture that could not be used while the others were."""
    from seg.classes import shown

    if seg.skipped:
        print(f'main.py: skipped {counted(len(seg.skipped), "picture")}:', file=sys.stderr)
    for line in seg.skipped:
        print(f'  {shown(line, 2000)}', file=sys.stderr)
    return int(bool(seg.skipped))


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
    seg.started, seg.skipped = time.monotonic(), []
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = _run(argv, presets, verbs, doc)
        except ModuleNotFoundError as e:
            name = (e.name or '').split('.')[0]
            if name in ('seg', 'main', 'model', 'datapre') or hosts.joined:
                raise
            how = 'run .venv/bin/python, or activate it: source .venv/bin/activate'
            mend = f'{how}; or pip install -r requirements.txt'
            print(f'main.py: {name} is not installed for {sys.executable}; {mend}', file=err)
            status = 2
        except Exception:
            if not hosts.joined:
                raise
            time.sleep(3)  # where another process has gone, hosts says so and ends this one
            traceback.print_exc()
            status = 1
        out.flush()
        if out.lost:
            print(f'main.py: its output could not be written ({out.lost.strerror})', file=err)
        err.flush()
    if status and hosts.joined:
        os._exit(status)  # jax would wait for the others
    return status or 2 * bool(out.lost)


def _run(argv, presets, verbs, doc):
    try:
        every = '--help-all' in (sys.argv if argv is None else argv)
        flags = vars(make_parser(presets, doc, every).parse_args(argv))
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
        refuse_unused(flags)
        flags |= {'data': place} if place else {}
        said = {'preset', 'config', 'resume', 'steps', 'epochs'} & {*flags}
        if verb in (None, 'train') and not said and {'data', 'images', 'minutes'} & {*flags}:
            flags['preset'] = 'auto'
        others, chosen = hosts.find(flags) if verb in (None, 'train') else None, None
        if others and others.rank:
            pass  # process 0 says what is to be done
        elif 'resume' in flags:
            folder, chosen = resume(flags)
        else:
            chosen = settings.resolve(flags, presets)
        if others:
            folder, chosen = others.begin(folder, chosen)
        chosen.log.encode()  # TensorFlow writes to names of UTF-8 alone
        return verbs[verb](chosen, flags, folder) or tell_skipped()
    except InputError as e:
        from seg.classes import shown  # here: --help answers without NumPy

        progress.clear()
        print(f'main.py: {shown(str(e), 2000)}', file=sys.stderr)  # with names from anybody's file
        return 2
    except UnicodeEncodeError as e:  # a path of other bytes where text is wanted
        name = ascii(e.object)[:200]
        print(f'main.py: {name}: expected a name of UTF-8; rename it', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        progress.clear()
        print('main.py: stopped', file=sys.stderr)
        return 130


@contextmanager
def hushed():
    """Meanwhile what goes to standard error is lost, that of C++, too."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the C++ side writes to the descriptor itself
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def quiet_tensorflow(count=1):
    """Import TensorFlow without its chatter about missing GPUs, which looks like an error, and
    Keras; InputError where Keras does not start with a user's settings. count: of devices; None
    leaves them as they are, in a program of somebody else."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    try:
        with hushed():
            import keras
            import tensorflow as tf

            if count:
                devices.prepare(count)
            tf.zeros(1)
    except (ImportError, ValueError) as e:  # of another backend, or of a keras.json
        found = f'KERAS_BACKEND={os.environ["KERAS_BACKEND"]} ({" ".join(str(e).split())[:150]})'
        fix = 'pip install jax' if "named 'jax'" in str(e) else 'unset it, or fix keras.json'
        raise InputError(f'Keras does not start: {found}; {fix}') from None
    found = keras.backend.backend()
    if found not in ('tensorflow', 'jax'):
        raise InputError(f'KERAS_BACKEND={found}: expected tensorflow or jax; unset it')
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)  # "HDF5 is legacy", said at every save
    tf.get_logger().setLevel('ERROR')  # "retracing", of several networks one after another
