"""Cross-validation: the parts of a data set."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg import sources
from seg.files import InputError
from seg.settings import Settings

# ---------------------------------------------------------------------------- parts


def pairs_of(names, root='data'):
    return [(Path(root, name + '.png'), Path(root, name + '.txt')) for name in names]


NAMES = st.dictionaries(st.sampled_from('abcdefghijklmnop'), st.integers(1, 6), min_size=1)


@given(NAMES, st.integers(2, 6), st.integers(0, 9), st.booleans(), st.randoms())
def test_every_picture_is_in_one_part_and_no_group_is_divided(groups, folds, seed, alike, random):
    names = [f'{g}_{i}' for g, count in groups.items() for i in range(count)]
    random.shuffle(names)
    pairs, settings = pairs_of(names), Settings(folds=folds, seed=seed)
    grouped = 2 * len(groups) <= len(names) and len(groups) >= (4 if alike else 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, '_alike', lambda paths: alike)
        if folds > (len(groups) if grouped else len(names)):
            with pytest.raises(InputError, match=f'--folds {folds}: expected as many .* found'):
                sources.hold_out(pairs, settings)
            return
        parts, _ = sources.hold_out(pairs, settings)
        moved, _ = sources.hold_out(pairs_of(names, '/another/place'), settings)
    assert len(parts) == folds
    assert sorted(p for _, val in parts for p in val) == sorted(pairs)
    assert all(val and sorted(fit + val) == sorted(pairs) for fit, val in parts)
    stems = [[p.stem for p, _ in val] for _, val in parts]
    assert stems == [[p.stem for p, _ in val] for _, val in moved]
    sizes = [*map(len, stems)]
    assert max(sizes) - min(sizes) <= (max(groups.values()) if grouped else 1)
    if grouped:
        kinds = [{stem[0] for stem in part} for part in stems]
        assert sum(map(len, kinds)) == len(groups)
    elif alike:
        places = [sorted(sorted(names).index(stem) for stem in part) for part in stems]
        assert all(place == [*range(place[0], place[-1] + 1)] for place in places)


def test_a_video_in_train_and_val_is_one_group(monkeypatch):
    monkeypatch.setattr(sources, '_alike', lambda paths: True)
    pairs = pairs_of([f'train/{v}_{i}' for v in 'abcd' for i in range(1, 9, 2)])
    pairs += pairs_of([f'val/{v}_{i}' for v in 'abcd' for i in range(2, 9, 2)])
    parts, _ = sources.hold_out(pairs, Settings(folds=4))
    kinds = sorted({p.stem[0] for p, _ in val} for _, val in parts)
    assert sorted(map(sorted, kinds)) == [['a'], ['b'], ['c'], ['d']]
    names = [f'{split}/{i}' for split in ('train', 'val') for i in range(9)]  # not one video
    parts, _ = sources.hold_out(pairs_of(names), Settings(folds=2))
    assert [{p.parent.name for p, _ in val} for _, val in parts] == [{'train'}, {'val'}]
