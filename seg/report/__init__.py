"""Pictures people look at, and the HTML report: scores, confusion, curves, the worst and the best
images, settings. No TensorFlow; matplotlib and jinja2 come with the first call that needs them."""

import base64
import bisect
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from seg.classes import to_hex
from seg.files import whole_file
from seg.metrics import COLUMNS, MEANS, confusion, scores
from seg.report.figures import confusion_figure, curves_figure, to_array, to_png, to_svg
from seg.report.pictures import (
    IGNORED,
    WRONG,
    as_rgb,
    error_map,
    legend,
    outlined,
    overlay,
    preview_page,
    save_picture,
    side_by_side,
    to_name,
)

__all__ = ['Report', 'confusion_figure', 'curves_figure', 'to_array', 'to_png', 'to_svg']
__all__ += ['error_map', 'legend', 'overlay', 'preview_page', 'save_picture', 'side_by_side']
__all__ += ['as_rgb', 'outlined', 'to_name']


class Report:
    """One HTML file without scripts or links: `add` each image of the split, then `write`; only the
    `keep` worst and the `keep` best images stay, as JPEG and PNG of about `width` pixels."""

    def __init__(self, path, classes, keep=6, width=480):
        self.path, self.classes, self.keep, self.width = Path(path), classes, keep, width
        self.images, self.cards = 0, []  # the worst `keep` and the best, by mIoU
        self.painted = set(classes.scored)  # what the key explains

    def add(self, name, image, truth, index):
        """One image, uint8 (H, W, C) or a path that is read where needed; truth, index (H, W)."""
        self.images += 1
        result = scores(confusion(truth, index, self.classes, other=True))
        place = bisect.bisect(self.cards, result['miou'], key=lambda card: card['miou'])
        middling = place == self.keep and len(self.cards) == 2 * self.keep
        if result['pixels'] and not middling:
            card = {'name': str(name), 'miou': result['miou'], 'accuracy': result['accuracy']}
            self.cards.insert(place, card | self._pictures(image, truth, index))
            del self.cards[self.keep : -self.keep]

    def _pictures(self, image, truth, index):
        """{'size': (width, height), 'pictures': {kind: data URI}}"""
        scale = min(1, self.width / (truth.size * 4 / 3) ** 0.5)
        size = tuple(max(1, round(side * scale)) for side in truth.shape[::-1])
        image = Image.fromarray(as_rgb(image)).resize(size, Image.Resampling.LANCZOS)
        maps = [Image.fromarray(a).resize(size, Image.Resampling.NEAREST) for a in (truth, index)]
        error = Image.fromarray(error_map(np.asarray(image), *map(np.asarray, maps), self.classes))
        for label in maps:
            self.painted |= {i for i in np.unique(label).tolist() if i < len(self.classes)}
            label.putpalette(self.classes.palette.tobytes())
        kinds = 'Image', 'Truth', 'Prediction', 'Error'
        return {'size': size, 'pictures': dict(zip(kinds, map(_data_uri, (image, *maps, error))))}

    def write(
        self,
        counts,
        settings=None,
        versions=None,
        history=None,
        split='',
        warnings=(),
        plan=(),
        look=(),
    ):
        """Write the file, whole or not at all, of metrics.confusion's counts of all images;
        settings, versions: {name: value}, without those of None; history: curves_figure's; split:
        'test', 'val', 'train', or what else the images are called; warnings: lines; plan: rows of
        what was decided, the decision and why; look: labels to look at, entries of
        suspects.Suspects; those with a crop are shown."""
        from jinja2 import Environment, StrictUndefined

        pages = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined)
        pages.filters |= {'hex': to_hex, 'svg': to_svg}
        pages.policies['json.dumps_kwargs'] = {'ensure_ascii': False, 'default': str}
        template = pages.from_string(Path(__file__).with_name('report.html').read_text('utf-8'))
        shown = dict(MEANS=MEANS, COLUMNS=COLUMNS, WRONG=WRONG, IGNORED=IGNORED, report=self)
        shown |= dict(split=split, warnings=warnings, settings=settings, versions=versions)
        shown |= dict(plan=plan)
        shown |= dict(look=[entry | _crop(*entry['crop']) for entry in look if entry['crop']])
        shown |= dict(result=scores(counts), matrix=confusion_figure(counts, self.classes))
        shown |= dict(curves=curves_figure(history or {}), time=time.strftime('%Y-%m-%d %H:%M'))
        page = template.render(shown)
        with whole_file(self.path, durable=False) as beside:
            beside.write_bytes(page.encode('utf-8', 'replace'))  # a file name may be no text


def _crop(picture, mask):
    """{'size': (width, height), 'uri': data URI} of a part of a picture, its region outlined."""
    image = Image.fromarray(outlined(picture, mask))
    return {'size': image.size, 'uri': _data_uri(image)}


def _data_uri(image):
    """A label as PNG, in which it is small and exact, any other picture as JPEG."""
    data, kind = io.BytesIO(), 'png' if image.mode == 'P' else 'jpeg'
    image.save(data, kind, optimize=kind == 'png', quality=80, subsampling=0)
    return f'data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}'
