"""Videos, cameras and folders of frames: through the same stream as pictures, out as a video.

    python main.py predict street.mp4
    python main.py predict 0                    # the first camera, until Ctrl-C
    python main.py predict frames/ --fps 25     # pictures that are frames

Frames are decoded, painted and encoded one after another, so that memory does not grow with the
length. Each keeps its time, so that a variable frame rate stays what it is; sound is left out.
"""

import re
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from seg import report
from seg.files import (
    InputError,
    check_target,
    make_folder,
    not_written,
    refuse_folder,
    remove_parts,
    unique_names,
    whole_file,
)
from seg.masks import OURS, Masks, made_from, overlay_of, source_of
from seg.predict import job_of, run, tell_shrunk
from seg.tree import header_size

try:
    import av
    from av.error import FFmpegError
except ImportError as e:
    raise InputError(f'videos are read by PyAV ({e}); `pip install av` brings it') from None

# A file says what it is, whatever its name: a playlist would have other files opened, or addresses.
FORMATS = 'mov,matroska,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg,mjpeg,h264,hevc,m4v,ivf,dv,mxf'
ONLY = {'protocol_whitelist': 'file', 'format_whitelist': FORMATS}
CAMERAS = {  # by sys.platform: FFmpeg's name of the device, its address, options
    'linux': ('v4l2', '/dev/video{}', {}),
    'darwin': ('avfoundation', '{}', {'framerate': '30'}),
    'win32': ('dshow', 'video={}', {}),
}
ENCODERS = {'libx264': {'preset': 'veryfast', 'crf': '20'}, 'libopenh264': {}, 'mpeg4': {}}


class Stills:
    """Jobs of pictures that are the frames of a video, `fps` a second. InputError where they are
    not all of one size."""

    unit, fault, stopped, camera, sound, ratio = 'frame', '', False, False, False, 1

    def __init__(self, model, folder, files, fps):
        self.model, self.file, self.files = model, folder.absolute(), files
        self.rate = Fraction(fps).limit_denominator(1001)
        self.base = 1 / self.rate
        self.size = header_size(files[0])
        for file in files:
            if header_size(file) != self.size:
                found, first = ('{}x{}'.format(*header_size(f)) for f in (file, files[0]))
                wanted = f'expected {first} pixels as of {files[0].name}'
                raise InputError(f'{file}: {wanted}, found {found}; frames have one size')

    def __length_hint__(self):
        return len(self.files)

    def __iter__(self):
        for i, file in enumerate(self.files):
            if self.stopped:
                return
            yield job_of(self.model, file)._replace(time=i * self.base)


class Video:
    """Jobs of the frames of a video's file, or of a camera by its number, as they are decoded.

    fault: what is found wrong with the file when it is read; stopped: ends it when it is set.
    InputError where it can not be opened."""

    unit, fault, stopped = 'frame', '', False

    def __init__(self, model, source):
        self.model, self.source = model, source
        self.camera = isinstance(source, int)
        stamp = time.strftime('%Y%m%d-%H%M%S')  # a recording is never replaced by the next
        self.file = Path(f'camera{source}-{stamp}') if self.camera else source
        self.container, stream = self._open()
        self.rate = _fraction(stream.average_rate) or _fraction(stream.guessed_rate) or Fraction(25)
        self.base = _fraction(stream.time_base)
        ratios = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
        self.ratio = next(filter(None, map(_fraction, ratios)), Fraction(1))
        self.size = stream.codec_context.height, stream.codec_context.width
        self.sound = bool(self.container.streams.audio)
        self.declared, self.lasts = stream.frames, self._lasts(stream)
        if not self.camera:
            self.container.close()

    def _lasts(self, stream):
        """Seconds that the pictures last; 0 where nobody says: the sound may last longer."""
        if self.camera:
            return Fraction(0)
        if stream.duration:
            return stream.duration * _fraction(stream.time_base)
        told = re.fullmatch(r'(\d+):(\d+):(\d+)(\.\d+)?', stream.metadata.get('DURATION', ''))
        if told:
            hours, minutes, seconds, rest = told.groups()
            return 3600 * int(hours) + 60 * int(minutes) + int(seconds) + Fraction(rest or 0)
        return Fraction(0 if self.sound else self.container.duration or 0, av.time_base)

    def _open(self):
        """(container, stream of its pictures), open."""
        try:
            if self.camera:
                container = _open_camera(self.source)
            else:
                container = av.open(f'file:{self.source}', options=ONLY)
            stream = container.streams.best('video')
        except (FFmpegError, ValueError) as e:
            why = ' '.join(str(getattr(e, 'strerror', None) or e).split())[:150]
            what = f'camera {self.source}' if self.camera else self.source
            mend = 'is it plugged in, and free?' if self.camera else 'replace the file'
            raise InputError(f'{what}: cannot be read as a video ({why}); {mend}') from None
        if not (stream and stream.codec_context and stream.codec_context.width):
            raise InputError(f'{self.source}: expected a video, found no pictures in it')
        stream.thread_type = 'AUTO'
        return container, stream

    def __length_hint__(self):
        return self.declared or max(0, int(self.lasts * self.rate))

    def _frames(self):
        """av.VideoFrames, as far as they can be decoded."""
        container = self.container
        stream = container.streams.best('video') if self.camera else None
        if not self.camera:
            container, stream = self._open()
        self.decoded, self.broken = 0, False
        with container:
            while True:
                try:
                    for packet in container.demux(stream):
                        if self.stopped:
                            return
                        self.broken |= packet.is_corrupt and self.decoded > 0
                        try:
                            frames = packet.decode()
                        except FFmpegError:  # a recording may begin between two whole pictures
                            self.broken |= self.decoded > 0
                            continue
                        self.decoded += len(frames)
                        yield from frames
                    return
                except BlockingIOError:  # a camera that has no next picture yet
                    time.sleep(0.005)
                except FFmpegError:
                    self.broken = True
                    with suppress(FFmpegError):  # what the decoder still holds
                        frames = stream.codec_context.decode(None)
                        self.decoded += len(frames)
                        yield from frames
                    return

    def __iter__(self):
        """Jobs; the first frame's size and display matrix hold for all."""
        last = None
        for i, frame in enumerate(self._frames()):
            if i == 0:
                first, size, matrix = frame.pts or 0, (frame.width, frame.height), _matrix(frame)
                if matrix is not None and abs(matrix[1]) > abs(matrix[0]):
                    self.ratio = 1 / self.ratio
            if i == 0 or frame.pts is None:
                at = 0 if i == 0 else last + 1 / self.rate
            else:
                at = max((frame.pts - first) * self.base, last + self.base)
            last = at
            image = frame.to_ndarray(format='rgb24', width=size[0], height=size[1])
            image = Image.fromarray(image if matrix is None else upright(image, matrix))
            name = self.file / f'{self.file.stem}-{i + 1:06}.png'
            yield job_of(self.model, name, image)._replace(time=at)
        if last is None and not self.stopped:
            raise InputError(f'{self.file}: damaged, no frame of it can be decoded; replace it')
        if self.stopped:
            return
        step = last / (self.decoded - 1) if last else 1 / self.rate
        left = self.lasts - last - step
        if self.declared:  # an edit list may leave frames out, or the sound last longer
            short = self.decoded < self.declared and left > 2 * step
        else:
            short = left > self.lasts / 10 > 0
        if self.broken or short:
            of = f' of {self.declared}' * (self.decoded < self.declared)
            self.fault = f'{self.file}: damaged, {self.decoded}{of} frames of it can be decoded'


def _fraction(number):
    """A Fraction of PyAV's number, which is none from version 19 on; None where it is unknown."""
    return Fraction(number.numerator, number.denominator) if number else None


def _open_camera(number):
    kind, address, options = CAMERAS.get(sys.platform, CAMERAS['linux'])
    which = number
    if kind == 'dshow':  # which goes by names
        from av.device import enumerate_input_devices

        found = [d.name for d in enumerate_input_devices(kind) if 'video' in d.media_types]
        if number >= len(found):
            raise ValueError(f'{len(found)} cameras found')
        which = found[number]
    return av.open(address.format(which), format=kind, options=options)


def _matrix(frame):
    """int32 (9,) of how a frame is to be shown, or None: as it is."""
    try:
        found = frame.side_data.get('DISPLAYMATRIX')
    except ValueError:  # other data that PyAV has no name for
        return None
    return None if found is None else np.frombuffer(bytes(found), np.int32)


def upright(image, matrix):
    """An image (H, W, C) as a display matrix of quarter turns and mirrors shows it: pixel (x, y)
    comes to (ax + cy, bx + dy), of which the first five are a, b, -, c, d (ISO/IEC 14496-12)."""
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b  # x of the picture is now y of the file
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


class Film:
    """Takes painted frames (see predict.run) and writes their overlays to a video, H.264 in MP4,
    each at its time. What it was made of stands in its comment."""

    def __init__(self, path, reel, classes, settings):
        self.path, self.reel, self.classes, self.settings = path, reel, classes, settings
        self.base, self.out = reel.base, None

    def __enter__(self):
        return self

    def _begin(self, width, height):
        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        if encoder == 'mpeg4' and self.base.denominator >= 1 << 16:  # more it can not count
            self.base = Fraction(1, 60000)
        self.out = av.open(f'file:{self.path}', 'w', 'mp4', options={'movflags': '+faststart'})
        self.out.metadata['comment'] = f'{OURS} {source_of(self.reel.file)}'
        self.stream = self.out.add_stream(encoder, self.reel.rate, options=ENCODERS[encoder])
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, 'yuv420p'
        context = self.stream.codec_context
        context.time_base = self.base
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709, range of TV
        context.color_range = 1
        if self.reel.ratio != 1:  # of pixels that are no squares
            context.sample_aspect_ratio = self.reel.ratio

    def __call__(self, painted):
        how = self.settings.opacity, self.settings.side_by_side
        picture = overlay_of(painted.image, painted.index, self.classes, *how)
        picture = np.vstack([picture, report.legend(self.classes, picture.shape[1])])
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), 'rgb24')
        frame = frame.reformat(format='yuv420p', dst_colorspace='ITU709')
        try:
            if not self.out:
                self._begin(frame.width, frame.height)
            frame.pts, frame.time_base = round(painted.job.time / self.base), self.base
            self.out.mux(self.stream.encode(frame))
        except FFmpegError as e:
            raise not_written(self.path, e) from None

    def __exit__(self, kind, error, trace):
        if not self.out:
            return
        try:
            if not kind:
                self.out.mux(self.stream.encode(None))
            self.out.close()
        except FFmpegError as e:
            if not kind:
                raise not_written(self.path, e) from None


class FrameMasks(Masks):
    """Masks of the frames of a video, of which nobody knows how many will come."""

    def __call__(self, painted):
        file = painted.job.file
        self.names[file] = self.shown_as[file] = file.stem
        self.suffix[file], self.left[file] = '.png', 1
        super().__call__(painted)
        for known in (self.names, self.shown_as, self.suffix, self.left):
            del known[file]


def made_of(path):
    """What a video that this program wrote says of its source, see masks.source_of; of any other
    file nothing."""
    try:
        with av.open(f'file:{path}', options=ONLY) as file:
            comment = file.metadata.get('comment', '')
    except (FFmpegError, ValueError):
        return ''
    return comment.removeprefix(f'{OURS} ') if comment.startswith(OURS) else ''


class Films:
    """The videos, and masks of frames, that are to be made of each source: the Path of a video, the
    number of a camera, or (folder, pictures), `fps` a second. settings.save without 'overlay' makes
    masks alone. InputError, before the work, where one can not be read, or a file that the program
    did not write is in the way."""

    def __init__(self, model, sources, folder, settings, read=(), fps=None):
        self.model, self.folder, self.settings = model, Path(folder), settings
        self.reels = [
            Stills(model, *source, fps) if isinstance(source, tuple) else Video(model, source)
            for source in sources
        ]
        names = unique_names([reel.file for reel in self.reels], self._is_anothers)
        refuse_folder(self.folder, [settings.data, *read])
        make_folder(self.folder)
        remove_parts(self.folder)
        kinds = tuple(kind for kind in settings.save if kind != 'overlay')
        self.targets, self.masks = [], []
        for reel, name in zip(self.reels, names):
            target = self.folder / f'{name}.mp4' if 'overlay' in settings.save else None
            if target:
                check_target(target, made_of)
            kind = Masks if isinstance(reel, Stills) else FrameMasks
            pictures, saved = getattr(reel, 'files', []), replace(settings, save=kinds)
            about = pictures, model.about.classes, saved, read
            self.targets.append(target)
            self.masks.append(kind(self.folder / name, *about) if kinds else None)
            tell_shrunk([reel.file], model.about.rule, settings, lambda _, size=reel.size: size)

    def _is_anothers(self, name, file):
        made = {(made_of(self.folder / f'{name}.mp4'), source_of(file))}
        first = Path(file) / f'{Path(file).stem}-000001.png'  # as Video calls it
        for place in ('', 'index'):
            made.add((made_from(self.folder / name / place / first.name), source_of(first)))
        return any(known and known != ours for known, ours in made)

    def paint(self):
        """Make them, one after another; InputError, in the end, where one is damaged."""
        faults = []
        for reel, target, masks in zip(self.reels, self.targets, self.masks):
            takers, made = ([masks], [f'{masks.folder}/']) if masks else ([], [])
            with ExitStack() as stack, ended_by_ctrl_c(reel):
                if target:
                    beside = stack.enter_context(whole_file(target, replace=True))
                    film = Film(beside, reel, self.model.about.classes, self.settings)
                    takers.insert(0, stack.enter_context(film))
                    made.insert(0, str(target))
                begin = time.monotonic()
                count = run(self.model, reel, takers, self.settings)
                if not count:  # Ctrl-C before the first
                    raise KeyboardInterrupt
            without = ', without its sound' * (reel.sound and bool(target))
            rate = f'{count / (time.monotonic() - begin):.1f} frames/s'
            print(f'{count} frames in {" and ".join(made)}{without}, {rate}')
            if reel.fault:
                faults.append(f'{reel.fault}; {made[0]} has them')
            if reel.stopped and not reel.camera:
                raise KeyboardInterrupt
        if faults:
            raise InputError(faults[0] + f' (and {len(faults) - 1} more)' * (len(faults) > 1))


@contextmanager
def ended_by_ctrl_c(reel):
    """Ctrl-C ends a video after the frames in work; once more ends the program."""

    def interrupt(number, frame):
        if reel.stopped:
            raise KeyboardInterrupt
        reel.stopped = True
        print('\nCtrl-C: ending the video; once more ends at once.', file=sys.stderr)

    heard = threading.current_thread() is threading.main_thread()  # others hear no signal
    before = heard and signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if heard:
            signal.signal(signal.SIGINT, before)
