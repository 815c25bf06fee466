"""Labels to look at: regions whose label a network contradicts with confidence, likeliest first.

A pixel is contradicted where the network's class differs from the given one and is at least as
probable as it is, on average, where it is labelled: the per-class threshold of confident learning
(Northcutt et al., "Confident Learning", JAIR 2021). Errors are of objects, pixels are not (Rottmann
and Reese, "Automated Detection of Label Errors in Semantic Segmentation Datasets", WACV 2023; Lad
and Mueller, "Estimating label quality and errors in semantic segmentation data via any model",
2023): what hangs together is one entry, and counts by its margin, its radius and its share of an
object, so that the rims of all edges come last. What a network has learned by heart it contradicts
seldom.
"""

import bisect
from collections import namedtuple

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.measure import label

from seg.classes import NO_CLASS, to_index
from seg.files import write_csv
from seg.sizes import resize
from seg.tiles import thinned

MOST = 1 << 21  # pixels that are looked at of one picture; of larger ones every second, third, ...
RIM = 2.0  # pixels: the radius that a region has at least
LOOK, SHOWN, CROP = 'suspects.csv', 40, 500  # entries in the report; pixels a side of their crops
COLUMNS = 'picture given likely area row column top left bottom right confidence'.split()
# radius: of the largest circle inside, in pixels; confidence: mean p(likely); score: the radius,
# times the square of the mean of p(likely) - p(given), times the root of its share of its object,
# the given or the predicted one, whichever it fills more; box: two slices; mask: bool, of the box
Region = namedtuple('Region', 'score given likely area radius confidence box mask')


class Suspects:
    """Takes every Painted with a label, in order, after Score; keeps the likeliest `entries`,
    the first of them with a part of the picture: memory does not grow with their number.

    Thresholds are of the pictures so far, the present one included."""

    def __init__(self, classes, keep=200):
        self.classes, self.keep, self.entries = classes, keep, []
        self.sums = np.zeros((2, 256))  # of p(given), and pixels, by given class

    def watch(self, jobs):
        """The jobs, so that what is painted in tiles can be judged, too."""
        return [job._replace(each=Parts(job, self.classes)) if job.truth else job for job in jobs]

    def __call__(self, painted):
        job, output = painted.job, painted.output
        if job.truth is None:
            return
        if output is None:
            index, (truth, *chances) = painted.index, job.each.taken()
            index = index[:, :][:: job.each.step, :: job.each.step]
        else:  # at the network's scale: what costs time does not grow with the picture
            index, truth = (
                resize(np.asarray(a), output.shape[:2], Image.Resampling.NEAREST)
                for a in (painted.index, job.truth())
            )
            step = step_of(index.shape)
            index, truth, output = (a[::step, ::step] for a in (index, truth, output))
            chances = probabilities(output, index, truth)
        likely, given = chances
        known = np.isin(truth, self.classes.scored)
        held = np.where(known, truth, NO_CLASS).ravel()
        self.sums += [np.bincount(held, w, 256) for w in (given.ravel(), None)]
        total, count = self.sums[:, :NO_CLASS]
        least = np.where(count, total / np.maximum(count, 1), total.sum() / max(count.sum(), 1))
        wrong = known & (index != truth) & (likely >= least[index])
        for region in regions(wrong, index, truth, likely, given):
            self._keep(painted, index.shape, region)

    def _keep(self, painted, shape, region):
        place = bisect.bisect(self.entries, -region.score, key=lambda entry: -entry['score'])
        if place == self.keep:
            return
        scale, names = np.divide(painted.index.shape, shape), self.classes.names
        low, high = np.transpose([(side.start, side.stop) for side in region.box])
        centre = (np.argwhere(region.mask).mean(0) + low + 0.5) * scale
        box = np.rint([low * scale, high * scale]).astype(int).ravel().tolist()
        words = str(painted.job.file), names[region.given], names[region.likely]
        area, centre = round(region.area * scale.prod()), centre.astype(int).tolist()
        entry = dict(zip(COLUMNS, (*words, area, *centre, *box, region.confidence)))
        self.entries.insert(place, entry | dict(score=region.score, crop=None))
        if place < SHOWN:
            margin = np.maximum((high - low) // 2, np.int64(16 / scale))
            start, stop = np.maximum(low - margin, 0), np.minimum(high + margin, shape)
            mask = np.pad(region.mask, np.transpose([low - start, stop - high]))
            window = tuple(map(slice, *(np.int64(end * scale) for end in (start, stop))))
            self.entries[place]['crop'] = thinned(painted.image[window], CROP), thinned(mask, CROP)
        for entry in self.entries[SHOWN : SHOWN + 1]:  # none moves up again
            entry['crop'] = None
        del self.entries[self.keep :]

    def write(self, path, split='', page=None):
        """suspects.csv, whole or not at all, and a line that says so; InputError where the file is
        somebody else's. split: what was scored; page: the report that shows the first of them."""
        rows = [[entry[name] for name in COLUMNS] for entry in self.entries]
        write_csv(path, [COLUMNS, *([*row[:-1], f'{row[-1]:.3f}'] for row in rows)])
        first = f', the first {SHOWN} in {page}' if page and rows else ''
        line = f'Labels to look at: {len(rows) or "none"}, in {path}{first}'
        learned = ' (learned from these labels, it seldom contradicts them)' * (split == 'train')
        print(line + learned)


class Parts:
    """Job.each of a picture painted in tiles: keeps the two probabilities, as bytes, of every
    step-th pixel."""

    def __init__(self, job, classes):
        self.job, self.classes, self.held = job, classes, None

    def __call__(self, rows, columns, output):
        if self.held is None:
            truth = self.job.truth()
            self.step = step_of(truth.shape)
            truth = truth[:: self.step, :: self.step]
            self.held = np.stack([truth, *np.zeros((2, *truth.shape), np.uint8)])
        first = [-s.start % self.step for s in (rows, columns)]
        output = output[first[0] :: self.step, first[1] :: self.step]
        top, left = (-(-s.start // self.step) for s in (rows, columns))
        part = self.held[:, top : top + len(output), left : left + output.shape[1]]
        if part.shape[1:] == output.shape[:2]:  # else Score tells that the sizes differ
            found = probabilities(output, to_index(output, self.classes), part[0])
            part[1:] = np.round(np.multiply(found, 255))

    def taken(self):
        """[truth, p(predicted), p(given)]; they are given away, for there are many jobs."""
        (truth, *chances), self.held = self.held, None
        return [truth, *(np.float32(chance) / 255 for chance in chances)]


def step_of(shape):
    return int(np.ceil((shape[0] * shape[1] / MOST) ** 0.5))


def probabilities(output, *indices):
    """[float32 (H, W)] of a network's output (H, W, n): that of the classes that each uint8 (H, W)
    of `indices` says; of one channel it is that of class 1."""
    if output.shape[-1] == 1:
        output = np.concatenate([1 - output, output], -1)
    flat = np.ascontiguousarray(output).reshape(-1, output.shape[-1])
    rows, last = np.arange(len(flat)), flat.shape[1] - 1
    found = (flat[rows, np.minimum(index, last).ravel()] for index in indices)
    return [np.float32(p).clip(0, 1).reshape(output.shape[:2]) for p in found]


def regions(wrong, index, truth, likely, given):
    """Regions of one picture, the highest score first: the connected pixels (8 neighbours) of
    `wrong`, bool (H, W), of one predicted and one given class, uint8 (H, W), whose probabilities
    are likely and given, float32 (H, W). Regions of the same two classes, either way round, whose
    boxes are near are one: an object that was moved, or that something thin divides."""
    pairs, found = np.where(wrong, index.astype(np.int32) << 8 | truth, -1), []
    pieces, *objects = (
        label(a, background=-1, connectivity=2) for a in (pairs, np.int32(index), np.int32(truth))
    )
    sizes = [np.bincount(numbers.ravel()) for numbers in objects]
    for i, box in enumerate(ndimage.find_objects(pieces), 1):
        if min(side.stop - side.start for side in box) < 2 * RIM - 1:
            continue
        mask = pieces[box] == i
        radius = ndimage.distance_transform_edt(np.pad(mask, 1)).max()
        if radius < RIM:
            continue
        c, g = (int(a[box][mask][0]) for a in (index, truth))
        area, confidence = int(mask.sum()), float(likely[box][mask].mean())
        share = max(area / n[held[box][mask][0]] for n, held in zip(sizes, objects))
        score = float(radius * (confidence - given[box][mask].mean()) ** 2 * share**0.5)
        found.append(Region(score, g, c, area, radius, confidence, box, mask))
    one = []
    for region in sorted(found, key=lambda region: -region.score):
        for i, other in enumerate(one):
            if {region.given, region.likely} == {other.given, other.likely} and near(region, other):
                one[i] = joined(other, region)
                break
        else:
            one.append(region)
    return one


def near(a, b):
    """Whether the gap between their boxes is no wider than the thinner of them."""
    gaps = [max(s.start, o.start) - min(s.stop, o.stop) for s, o in zip(a.box, b.box)]
    return max(gaps) <= 2 * min(a.radius, b.radius)


def joined(a, b):
    """The two as one, with what a, the likelier one, says."""
    box = [(min(s.start, o.start), max(s.stop, o.stop)) for s, o in zip(a.box, b.box)]
    mask = np.zeros([stop - start for start, stop in box], bool)
    for r in a, b:
        mask[tuple(slice(s.start - o, s.stop - o) for s, (o, _) in zip(r.box, box))] |= r.mask
    confidence = (a.confidence * a.area + b.confidence * b.area) / (a.area + b.area)
    box = tuple(slice(*side) for side in box)
    return a._replace(area=a.area + b.area, confidence=confidence, box=box, mask=mask)
