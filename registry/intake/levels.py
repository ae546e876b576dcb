"""Where the classes and splits are in a tree of folders, by the whole tree.

Each image is in a folder, and its path is read level by level. Levels with the same name for all images have no meaning
(wrappers, `images` within each class). A level at which all names are splits gives the splits. The one remaining level
gives the classes. A few images elsewhere are left out; anything else that is ambiguous is refused, with the possible
readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry.errors import ArchiveRefusedError
from registry.intake.choices import IGNORE, Choices, refuse_option
from registry.intake.names import (
    CONTAINERS,
    SPLITS,
    UNLABELLED,
    Parts,
    are_counted,
    are_numbered_containers,
    find_split_word,
    splits_of_folders,
)
from registry.intake.notes import Notes, name_some

_MOST_OUTLIERS = 0.2
"""Maximum share of images at another depth than the others, which are left out; a single one is always allowed."""

_MOST_LOST = 0.05
"""Maximum share of images in top folders that are left out completely."""

_MAX_DEPTH = 20
NO_CLASS = "not in a class folder"
Folders = Mapping[Parts, int]


@dataclass(frozen=True)
class Arrangement:
    """How a tree of folders is read.

    Attributes:
        root: Folder around all of it.
        class_level: Which folder below the root names the class, from 1 on.
        split_level: Which one names the split; None if none does.
        splits: From its name, or from the path of a folder below the root, to the split.
        left_out: Folders below the root whose images have no class, with reasons.
        is_path: Whether all folders from the class level on together name the class.
    """

    root: Parts
    class_level: int
    split_level: int | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[Parts, str] = field(default_factory=dict)
    is_path: bool = False

    def place(self, parts: Parts) -> tuple[str | None, str]:
        """Return the split (or None) and the class of an image by its path.

        Raises:
            LookupError: It has no class; the message says why.
        """
        if parts[: len(self.root)] != self.root:
            raise LookupError(NO_CLASS)
        folder = parts[len(self.root) : -1]
        if folder in self.left_out:
            raise LookupError(self.left_out[folder])
        if not self.class_level <= len(folder) <= _MAX_DEPTH:
            raise LookupError(NO_CLASS)
        split = None if self.split_level is None else self.splits.get(folder[self.split_level - 1], IGNORE)
        if split == IGNORE:
            raise LookupError("not in a split folder, while other images are")
        return split, "/".join(folder[self.class_level - 1 :]) if self.is_path else folder[self.class_level - 1]


class UnclassedError(Exception):
    """No folder can be a class."""


def arrange(folders: Folders, choices: Choices, base: Parts, notes: Notes) -> Arrangement:
    """Return how the folders of an upload's images are read.

    Args:
        folders: Number of images directly in each folder, by its path.
        base: The folder to read, chosen by the user; empty means all.
    """
    shallow = {path: count for path, count in folders.items() if len(path) <= _MAX_DEPTH + len(base)}
    tree = _Tree({path[len(base) :]: count for path, count in shallow.items()}, notes)
    if choices.root is None:
        tree = tree.unwrapped()
    found = _choose(tree, choices) if choices.class_level is not None else _recognise(tree, choices)
    return replace(found, root=(*base, *tree.root))


@dataclass(frozen=True)
class _Tree:
    """Folders with images, without wrapping folders."""

    folders: Folders
    notes: Notes
    root: Parts = ()

    def unwrapped(self) -> _Tree:
        """Return the tree without folders that hold all others; images beside the only folder stay outside."""
        tops = {path[0] for path in self.folders if path}
        deep = any(len(path) > 1 for path in self.folders)
        if len(tops) != 1 or not deep or tops.pop().lower() in SPLITS:
            return self
        inside = {path[1:]: count for path, count in self.folders.items() if path}
        outside = self.num_images - sum(inside.values())
        if outside > max(1, _MOST_OUTLIERS * self.num_images):
            return self
        top = next(path[0] for path in self.folders if path)
        return _Tree(inside, self.notes, (*self.root, top)).unwrapped()

    @property
    def num_images(self) -> int:
        """Number of images in all folders."""
        return sum(self.folders.values())

    def warn_of_unlabelled(self, path: Parts, count: int) -> None:
        """Record that images are left out because no folder names their class."""
        where = "/".join((*self.root, *path))
        detail = f"{where} contains {count:,} images without class folders; they are skipped."
        self.notes.warn("unlabelled_folder", detail, path)

    def names(self, level: int) -> list[str]:
        """Return the folders' names at a level, from 1 on, sorted."""
        return sorted({path[level - 1] for path in self.folders if len(path) >= level})

    def without(self, paths: Collection[Parts]) -> _Tree:
        """Return the tree without some folders."""
        return replace(self, folders={path: count for path, count in self.folders.items() if path not in paths})


def _choose(tree: _Tree, choices: Choices) -> Arrangement:
    """Return the arrangement with the class level that the user wants."""
    level = choices.class_level or 1
    deep = {path: count for path, count in tree.folders.items() if len(path) >= level}
    if not deep:
        depth = max(map(len, tree.folders), default=0)
        where = "/".join(tree.root) or "the top of the archive"
        raise refuse_option(
            "class_level", level, f"images are at most {depth} folders below {where}", "Choose a smaller level."
        )
    kept = replace(tree, folders=deep)
    split_level, splits = _find_splits(kept, level - 1, choices)
    return Arrangement((), level, split_level, splits)


def _recognise(tree: _Tree, choices: Choices) -> Arrangement:
    left_out: dict[Parts, str] = {}
    if choices.split_of is None:
        left_out |= _without_labels(tree)
        tree = tree.without(left_out)
    strays = {path: NO_CLASS for path in tree.folders if not path}
    if len(strays) == len(tree.folders):
        raise UnclassedError
    tree, left_out = tree.without(strays), left_out | strays
    letters = _index_letters(tree)
    if letters is not None:
        return replace(letters, left_out=left_out)
    outliers = _outliers(tree)
    tree, left_out = tree.without(outliers), left_out | outliers
    depth = len(next(iter(tree.folders)))
    split_level, splits = _find_splits(tree, depth, choices)
    level = _class_level(tree, depth, split_level, splits)
    return Arrangement((), level, split_level, splits, left_out)


def _without_labels(tree: _Tree) -> dict[Parts, str]:
    """Return folders that are splits, or beside splits, and hold images without class folders while others have some.

    That is `test/*.png` beside `train/cat/*.png`, and `seg_pred/*.jpg` beside `seg_train` and `seg_test`.
    """
    splits = _split_tops(tree)
    found = _unlabelled_splits(tree, splits)
    tree = tree.without(found)
    depths = [len(path) for path in tree.folders if path and path[0] in splits and not _says_nothing(path)]
    if not depths or max(depths) < 2:
        return found
    has_several = len(set(splits.values())) > 1
    for path, count in tree.folders.items():
        if not path or len(path) >= max(depths):
            continue
        is_split = path[0] in splits
        is_beside = not is_split and (has_several or path[0].lower() in UNLABELLED)
        if is_beside or (is_split and _says_nothing(path)):
            found[path] = NO_CLASS
            tree.warn_of_unlabelled(path, count)
    return found


def _unlabelled_splits(tree: _Tree, splits: Mapping[str, str]) -> dict[Parts, str]:
    """Return the only folders of splits whose names are not classes, as `test/test` and `test/unknown`."""
    inside: dict[str, set[Parts]] = {}
    tops: dict[str, set[str]] = {}
    for path in filter(None, tree.folders):
        tops.setdefault(path[-1], set()).add(path[0])
        if path[0] in splits:
            inside.setdefault(path[0], set()).add(path)
    alone = [next(iter(paths)) for paths in inside.values() if len(paths) == 1]
    found: dict[Parts, str] = {}
    for path in alone:
        says_nothing = _says_nothing(path[-1:]) or path[-1].lower() in UNLABELLED
        if len(path) > 1 and says_nothing and len(tops[path[-1]]) == 1 and len(tops) > 2:
            found[path] = NO_CLASS
            tree.warn_of_unlabelled(path, tree.folders[path])
    return found


def _split_tops(tree: _Tree) -> Mapping[str, str]:
    """Return the folders of the first level that name splits: by whole names, or several of them by a word."""
    names = tree.names(1)
    exact = [name for name in names if name.lower() in SPLITS]
    if exact:
        return splits_of_folders(exact) or {}
    words = {name: word for name in names if (word := find_split_word(name)) is not None}
    rests = Counter(word.rest for word in words.values())
    if not rests or rests.most_common(1)[0][1] < 2:
        return {}
    rest = rests.most_common(1)[0][0]
    return splits_of_folders([name for name, word in words.items() if word.rest == rest]) or {}


def _says_nothing(path: Parts) -> bool:
    """Return whether a path has no folder that can be a class."""
    return all(part.lower() in CONTAINERS or find_split_word(part) is not None for part in path)


def _index_letters(tree: _Tree) -> Arrangement | None:
    """Return the arrangement of SUN397 and Places, which put classes into folders `a` to `z` by their first letter."""
    names = tree.names(1)
    fits = all(len(path) > 1 and path[1][:1].lower() == path[0].lower() for path in tree.folders)
    if not fits or len(names) < 2 or any(len(name) != 1 or not name.isalpha() for name in names):
        return None
    tree.notes.warn("grouped_classes", f"Folders {name_some(names)} are an alphabetical index, not classes.")
    return Arrangement((), 2, is_path=True)


def _outliers(tree: _Tree) -> dict[Parts, str]:
    """Return the few folders at another depth than all others; refuses the upload if there are many."""
    by_depth: Counter[int] = Counter()
    for path, count in tree.folders.items():
        by_depth[len(path)] += count
    depth, most = max(by_depth.items(), key=lambda item: (item[1], item[0]))
    if tree.num_images - most > max(1, _MOST_OUTLIERS * tree.num_images):
        raise _ambiguous(tree, "images are at different depths")
    reason = f"not at the depth of the other images in class folders ({depth} folders)"
    found = {path: reason for path in tree.folders if len(path) != depth}
    lost = set(tree.names(1)) - set(tree.without(found).names(1))
    splits = _split_tops(tree)
    if lost and splits and set(tree.names(1)) - set(splits):
        raise _mixed(tree, tree.names(1), list(splits))
    if lost and sum(count for path, count in tree.folders.items() if path[0] in lost) > _MOST_LOST * tree.num_images:
        raise _ambiguous(tree, "images are at different depths")
    return found


def _find_splits(tree: _Tree, depth: int, choices: Choices) -> tuple[int | None, dict[str, str]]:
    """Return the level whose folders name splits, among the first `depth`, and the split of each of them."""
    if choices.split_of is not None:
        return _chosen_splits(tree, depth, choices)
    for level in range(1, depth + 1):
        names = tree.names(level)
        found = splits_of_folders(names)
        if found is not None:
            return level, dict(found)
        splits = [name for name in names if name.lower() in SPLITS]
        if splits:
            _check_partial(tree, level, depth, names, splits)
        elif (several := _split_tops(tree)) and level == 1 and len(set(several.values())) > 1:
            raise _mixed(tree, names, list(several))
    return None, {}


def _check_partial(tree: _Tree, level: int, depth: int, names: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse a level with some names of splits; a class called "train" among others is allowed."""
    if [name.lower() for name in splits] == ["train"] and level == depth and len(names) > 2:
        tree.notes.warn(
            "class_named_like_a_split", f"{splits[0]!r} is read as a class, because the other folders are not splits."
        )
        return
    raise _mixed(tree, names, splits)


def _chosen_splits(tree: _Tree, depth: int, choices: Choices) -> tuple[int | None, dict[str, str]]:
    chosen = {name.strip("/").rpartition("/")[2]: split for name, split in choices.split_of or ()}
    if not chosen:
        return None, {}
    for level in range(1, depth + 1):
        found = {name: chosen[name] for name in tree.names(level) if name in chosen}
        if found:
            return level, found
    raise refuse_option(
        "split_of", name_some(chosen), "no folder with images has this name", f"The folders are {_ways(tree)}."
    )


def _class_level(tree: _Tree, depth: int, split_level: int | None, splits: Mapping[str, str]) -> int:
    """Return the level that names the classes, in a tree with all images at the same depth."""
    others = [level for level in range(1, depth + 1) if level != split_level]
    varying = [level for level in others if len(tree.names(level)) > 1 and not _repeats(tree, level, split_level)]
    if len(varying) > 1:
        return _lowest(tree, varying)
    if varying and not are_numbered_containers(tree.names(varying[0])):
        return varying[0]
    if varying:
        raise UnclassedError
    named = [level for level in others if not _says_nothing((tree.names(level)[0],))]
    if not named or (split_level is not None and all(_repeats(tree, level, split_level) for level in others)):
        raise UnclassedError
    return named[-1]


def _repeats(tree: _Tree, level: int, split_level: int | None) -> bool:
    """Return whether a level repeats the splits' names, as in `seg_train/seg_train`."""
    return split_level is not None and all(path[level - 1] == path[split_level - 1] for path in tree.folders)


def _lowest(tree: _Tree, varying: Sequence[int]) -> int:
    """Return the level that holds the images, if the levels above it are groups of classes."""
    *groups, level = varying
    above: dict[str, set[Parts]] = {}
    for path in tree.folders:
        above.setdefault(path[level - 1], set()).add(tuple(path[group - 1] for group in groups))
    is_shared = any(len(each) > 1 for each in above.values())
    is_counted = are_counted(above) and not are_counted(tree.names(groups[-1]))
    if is_shared or is_counted:
        raise _ambiguous(tree, "several folder levels differ")
    names = name_some(tree.names(groups[-1]))
    tree.notes.warn(
        "grouped_classes",
        f"Folders {names} are read as groups of classes; set class_level={groups[-1]} to use them as classes.",
    )
    return level


def _ambiguous(tree: _Tree, why: str) -> ArchiveRefusedError:
    return ArchiveRefusedError(
        "ambiguous_layout",
        f"The folders can be read in more than one way, because {why}: {_ways(tree)}.",
        "Upload it again with `class_level`, the level of the class folders, or with `root`, the folder to read.",
    )


def _mixed(tree: _Tree, names: Sequence[str], splits: Sequence[str]) -> ArchiveRefusedError:
    others = [name for name in names if name not in splits]
    return ArchiveRefusedError(
        "ambiguous_layout",
        f"Some folders are named like splits ({name_some(splits)}), but others at the same level are not "
        f"({name_some(others)}).",
        'Specify the splits with `split_of`, a JSON object such as {"train": "train", "extra": "ignore"}, or {} if '
        "all are classes; or choose one folder with `root`.",
    )


def _ways(tree: _Tree) -> str:
    depth = min(max(map(len, tree.folders), default=0), 4)
    ways = []
    for level in range(1, depth + 1):
        names = tree.names(level)
        ways.append(f"class_level={level} gives {len(names):,} ({name_some(names)})")
    where = f" below {'/'.join(tree.root)!r}" if tree.root else ""
    return "; ".join(ways) + where
