"""The command line: its words to Settings, mistakes in one line, the exit status."""

import dataclasses
import os
import sys
import time
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import seg
from seg import devices, hosts, progress, settings
from seg.files import InputError, counted
from seg.parser import make_parser
from seg.runs import find_run
from seg.settings import FIELDS, Settings


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
