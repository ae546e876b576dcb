"""The usual shapes: class folders, tables, shards and exports of annotation tools, with what comes along."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from registry.intake.choices import Choices
from tests.builders import digit_pngs
from tests.registry.uploads import tar_bytes
from tests.shapes.shape import Build, Shape, tree

PETS = ("cat", "dog")
CONVERT, MIXED = "needs_conversion", "ambiguous_layout"
ROWS = "a.jpg,cat\nb.jpg,dog\nc.jpg,cat\nd.jpg,dog\n"
LISTED = "images/{a,b,c,d}.jpg"
COCO = json.dumps({"images": [{"id": 1}], "annotations": [{"image_id": 1}], "categories": [{"id": 1}]})


def parquet(**columns: list[object]) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


def rows(labels: list[object], start: int = 0) -> bytes:
    """A Parquet file of images with labels, as `push_to_hub` writes it."""
    images: list[object] = [{"bytes": digit_pngs(2)[start + row], "path": None} for row in range(len(labels))]
    return parquet(image=images, label=labels)


def shard(start: int = 0, suffix: str = "cls") -> bytes:
    names = [f"{start + number:05}" for number in range(4)]
    members = {f"{name}.png": digit_pngs(3)[start + row] for row, name in enumerate(names)}
    labels = {f"{name}.{suffix}": f"{row % 2}".encode() for row, name in enumerate(names)}
    return tar_bytes(members | labels)


def encoded(encoding: str) -> dict[str, bytes]:
    table = f"file_name,label\n{ROWS}".replace("cat", "chaîne")
    return {**tree(LISTED), "labels.csv": table.encode(encoding)}


def unflagged(name: str, *, encoding: str, maker: int = 3) -> Build:
    """A zip whose names are not marked as UTF-8, as Info-ZIP, the Finder and Windows write them."""
    raw = name.encode(encoding)

    def build(path: Path) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for folder in ("X" * len(raw), "plain"):
                for number in range(2):
                    entry = zipfile.ZipInfo(f"{folder}/{number}.png")
                    entry.create_system = maker
                    archive.writestr(entry, digit_pngs(4)[number])
        path.write_bytes(path.read_bytes().replace(b"X" * len(raw) + b"/", raw + b"/"))
        return path

    return build


def _backslashes(path: Path) -> Path:
    """A zip of Windows PowerShell 5.1."""
    with zipfile.ZipFile(path, "w") as archive:
        for label in PETS:
            entry = zipfile.ZipInfo(f"set?{label}?1.png")
            entry.create_system = 0
            archive.writestr(entry, digit_pngs(5)[0])
    path.write_bytes(path.read_bytes().replace(b"set?", b"set\\").replace(b"?1.png", b"\\1.png"))
    return path


FOLDERS = (
    Shape("Class folders", tree("{cat,dog}/{1..3}.jpg"), PETS, {None: 6}),
    Shape("train/test folders", tree("{train,test}/{cat,dog}/{1..3}.jpg"), PETS, {"train": 6, "test": 6}),
    Shape("Several wrappers", tree("a/b/c/{train,val}/{cat,dog}/{1..3}.jpg"), PETS, {"train": 6, "validation": 6}),
    Shape(
        "train with classes, flat test (Kaggle)",
        tree("train/{cat,dog}/{1..3}.jpg", "test/{1..4}.png"),
        PETS,
        {"train": 6},
        warnings=("unlabelled_folder",),
    ),
    Shape(
        "A stray image in a split folder",
        tree("{train,val}/{cat,dog}/{1..3}.jpg", "train/montage.png"),
        PETS,
        {"train": 6, "validation": 6},
    ),
    Shape("A stray image in the wrapper", tree("ds/train/{cat,dog}/{1..3}.jpg", "ds/sample.png"), PETS, {"train": 6}),
    Shape("A preview beside classes", tree("ds/{cat,dog}/{1..3}.jpg", "ds/preview.jpg"), PETS, {None: 6}),
    Shape("train and dev", tree("{train,dev}/{cat,dog}/{1..2}.jpg"), PETS, {"train": 4, "validation": 4}),
    Shape(
        "train, eval and test",
        tree("{train,eval,test}/{cat,dog}/{1..2}.jpg"),
        PETS,
        {"train": 4, "validation": 4, "test": 4},
    ),
    Shape("train and holdout", tree("{Training,Holdout}/{cat,dog}/{1..2}.jpg"), PETS, {"train": 4, "test": 4}),
    Shape(
        "training_set and test_set",
        tree("dataset/{training_set,test_set}/{cat,dog}/{1..2}.jpg"),
        PETS,
        {"train": 4, "test": 4},
    ),
    Shape("Splits within classes", tree("{cat,dog}/{train,test}/{1..2}.jpg"), PETS, {"train": 4, "test": 4}),
    Shape("images within classes", tree("{train,test}/{cat,dog}/images/{1..2}.jpg"), PETS, {"train": 4, "test": 4}),
    Shape("train, test and another", tree("{train,test,extra}/{cat,dog}/{1..2}.jpg"), code=MIXED, way="split_of"),
    Shape(
        "train, test and another, split_of",
        tree("{train,test,extra}/{cat,dog}/{1..2}.jpg"),
        PETS,
        {"train": 8, "test": 4},
        choices=Choices(split_of=(("extra", "train"), ("test", "test"), ("train", "train"))),
    ),
    Shape("Flat train, test and extra", tree("{train,test,extra}/{1..3}.png"), code=MIXED, way="split_of"),
    Shape("Flat train and test", tree("{train,test}/{1..3}.png"), code="no_images", way="CLASS/image"),
    Shape("Flat images", tree("{1..5}.png"), code="no_images", way="CLASS/image"),
    Shape(
        "A class called train among others",
        tree("{bus,car,train}/{1..2}.jpg"),
        ("bus", "car", "train"),
        {None: 6},
        warnings=("class_named_like_a_split",),
    ),
    Shape(
        "Domains with the same classes (Office-31)",
        tree("{amazon,dslr}/images/{bag,desk}/{1..2}.jpg"),
        code=MIXED,
        way="class_level",
    ),
    Shape(
        "Domains, class_level=3",
        tree("{amazon,dslr}/images/{bag,desk}/{1..2}.jpg"),
        ("bag", "desk"),
        {None: 8},
        choices=Choices(class_level=3),
    ),
    Shape(
        "Domains, root=amazon",
        tree("{amazon,dslr}/images/{bag,desk}/{1..2}.jpg"),
        ("bag", "desk"),
        {None: 4},
        choices=Choices(root="amazon"),
    ),
    Shape("Classes by date", tree("{cat,dog}/{2023,2024}/{1..2}.jpg"), code=MIXED, way="class_level"),
    Shape(
        "Groups of classes",
        tree("animals/{cat,dog}/{1..2}.jpg", "vehicles/{bus,car}/{1..2}.jpg"),
        ("bus", "car", "cat", "dog"),
        {None: 8},
        warnings=("grouped_classes",),
    ),
    Shape("Depths that conflict", tree("cat/2024/may/{1..2}.jpg", "dog/{1..2}.jpg"), code=MIXED, way="class_level"),
    Shape("One class", tree("cat/{1..3}.jpg"), ("cat",), {None: 3}),
    Shape(
        "A Mac's leftovers",
        tree(
            "pets/{cat,dog}/{1..2}.jpg",
            "__MACOSX/pets/cat/._1.jpg",
            "pets/.DS_Store = x",
            "pets/cat/Icon\r = x",
            "pets/Thumbs.db = x",
        ),
        PETS,
        {None: 4},
        kind="tar",
    ),
    Shape(
        "Files without extensions",
        {f"{label}/{n}": digit_pngs(6)[n] for label in PETS for n in range(3)},
        PETS,
        {None: 6},
    ),
    Shape("JFIF, JPE, PPM and AVIF by name", tree("{cat,dog}/{1.jfif,2.jpe,3.ppm,4.avif,5.pgm}"), PETS, {None: 10}),
    Shape("tar.xz", tree("{cat,dog}/{1..3}.jpg"), PETS, {None: 6}, kind="tar.xz"),
    Shape("tar.bz2", tree("{cat,dog}/{1..3}.jpg"), PETS, {None: 6}, kind="tar.bz2"),
    Shape("7z", build=lambda path: _write(path, b"7z\xbc\xaf\x27\x1c" + bytes(600)), code="unknown_format", way="7z x"),
    Shape("zip of zips", tree("{train,test}.zip = PK"), code=CONVERT, way="unzip"),
    Shape(
        "Names in UTF-8 without the flag (zip -r)",
        build=unflagged("crème brûlée", encoding="utf-8"),
        classes=("crème brûlée", "plain"),
        splits={None: 4},
    ),
    Shape(
        "Names decomposed (Finder)",
        build=unflagged("cre\u0300me", encoding="utf-8"),
        classes=("crème", "plain"),
        splits={None: 4},
    ),
    Shape(
        "Names in cp437 (DOS)",
        build=unflagged("crème", encoding="cp437", maker=0),
        classes=("crème", "plain"),
        splits={None: 4},
        warnings=("unsure_names",),
    ),
    Shape("Backslashes (PowerShell 5.1)", build=_backslashes, classes=PETS, splits={None: 2}),
)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


TABLES = (
    Shape("metadata.csv", tree(LISTED, f"images/metadata.csv = file_name,label\n{ROWS}"), PETS, {None: 4}),
    Shape("Metadata.CSV", tree(LISTED, f"images/Metadata.CSV = File_Name,Label\n{ROWS}"), PETS, {None: 4}),
    Shape("metadata.csv with class", tree(LISTED, f"images/metadata.csv = file_name,class\n{ROWS}"), PETS, {None: 4}),
    Shape(
        "metadata.json, a list",
        {
            **tree(LISTED),
            "metadata.json": json.dumps(
                [
                    {"file_name": f"images/{name}.jpg", "label": label}
                    for name, label in zip("abcd", PETS * 2, strict=True)
                ]
            ).encode(),
        },
        PETS,
        {None: 4},
    ),
    Shape(
        "labels.json, from file to class",
        {
            **tree(LISTED),
            "labels.json": json.dumps(
                {f"{name}.jpg": label for name, label in zip("abcd", PETS * 2, strict=True)}
            ).encode(),
        },
        PETS,
        {None: 4},
    ),
    Shape(
        "train.csv, val.csv and test.csv",
        tree(
            "images/{a,b,c,d,e,f}.jpg",
            "train.csv = path,label\na.jpg,cat\nb.jpg,dog\n",
            "val.csv = path,label\nc.jpg,cat\nd.jpg,dog\n",
            "test.csv = path,label\ne.jpg,cat\nf.jpg,dog\n",
        ),
        PETS,
        {"train": 2, "validation": 2, "test": 2},
    ),
    Shape(
        "A table a class",
        tree(
            "images/{a,b,c,d}.jpg",
            "cats.csv = image,label\na.jpg,cat\nc.jpg,cat\n",
            "dogs.csv = image,label\nb.jpg,dog\nd.jpg,dog\n",
        ),
        PETS,
        {None: 4},
    ),
    Shape(
        "A column of splits",
        tree(
            LISTED, "labels.csv = file,label,split\na.jpg,cat,train\nb.jpg,dog,train\nc.jpg,cat,dev\nd.jpg,dog,test\n"
        ),
        PETS,
        {"train": 2, "validation": 1, "test": 1},
    ),
    Shape("UTF-16 (Excel)", encoded("utf-16"), ("chaîne", "dog"), {None: 4}),
    Shape("Latin-1", encoded("latin-1"), ("chaîne", "dog"), {None: 4}, warnings=("unsure_encoding",)),
    Shape("No header", tree(LISTED, f"labels.csv = {ROWS}"), PETS, {None: 4}),
    Shape("A comment line", tree(LISTED, f"labels.csv = # made by me\nfilename,label\n{ROWS}"), PETS, {None: 4}),
    Shape(
        "sep=; (Excel)", tree(LISTED, "labels.csv = sep=;\nfilename;label\n" + ROWS.replace(",", ";")), PETS, {None: 4}
    ),
    Shape("A header only", tree(LISTED, "labels.csv = filename,label\n"), code="bad_table", way="label_column"),
    Shape(
        "Columns without the usual names",
        tree(LISTED, f"labels.csv = stem,species\n{ROWS}"),
        code="bad_table",
        way="label_column",
    ),
    Shape(
        "Columns by option",
        tree(LISTED, f"labels.csv = stem,species\n{ROWS}"),
        PETS,
        {None: 4},
        choices=Choices(path_column="stem", label_column="species"),
    ),
    Shape(
        "A table and images in a wrapper, LICENSE beside",
        tree(f"ds/{LISTED}", f"ds/train.csv = file_name,label\n{ROWS}", "LICENSE = MIT"),
        PETS,
        {None: 4},
    ),
    Shape("A table in another folder", tree(LISTED, f"lists/train.csv = filename,label\n{ROWS}"), PETS, {None: 4}),
    Shape(
        "Paths of another computer",
        tree(LISTED, "labels.csv = path,label\n" + "".join(f"C:\\data\\set\\images\\{row}\n" for row in ROWS.split())),
        PETS,
        {None: 4},
    ),
    Shape(
        "Labels as pandas' floats",
        tree(LISTED, "labels.csv = file,label\na.jpg,0.0\nb.jpg,1.0\nc.jpg,0.0\nd.jpg,NaN\n"),
        ("0", "1"),
        {None: 3},
    ),
    Shape(
        "One class in 0/1 columns (Roboflow)",
        tree(
            "train/{a,b,c,d}.jpg",
            "train/_classes.csv = filename, cat, dog\na.jpg,1,0\nb.jpg,0,1\nc.jpg,1,0\nd.jpg,0,1\n",
        ),
        PETS,
        {"train": 4},
    ),
    Shape(
        "Several classes in 0/1 columns",
        tree("train/{a,b}.jpg", "train/_classes.csv = filename, cat, dog\na.jpg,1,1\nb.jpg,0,1\n"),
        code="multi_label",
        way="one class an image",
    ),
    Shape(
        "Several classes in a cell",
        tree(LISTED, "labels.csv = file,label\na.jpg,cat|dog\nb.jpg,dog\nc.jpg,cat\nd.jpg,cat|fox\n"),
        code="multi_label",
        way="one class an image",
    ),
    Shape(
        "NFC and NFD labels",
        tree(LISTED, "labels.csv = file,label\na.jpg,caf\u00e9\nb.jpg,cafe\u0301\nc.jpg,tea\n"),
        ("caf\u00e9", "tea"),
        {None: 3},
    ),
    Shape("Captions in a table", tree(LISTED, "labels.csv = file,caption\n"), code="bad_table", way="label_column"),
    Shape(
        "Titles that are captions",
        tree(
            LISTED,
            "labels.csv = filepath,title\na.jpg,a red cat on a mat\nb.jpg,the dog of my aunt\n"
            "c.jpg,cats that play\nd.jpg,a dog with a ball\n",
        ),
        code="not_classes",
        way="label_column",
    ),
    Shape(
        "Metadata in Parquet, with paths",
        {
            **tree(LISTED),
            "metadata.parquet": parquet(
                file_name=[f"images/{name}.jpg" for name in "abcd"], label=[True, False, True, False]
            ),
        },
        ("false", "true"),
        {None: 4},
    ),
)
EXPORTS = (
    Shape(
        "COCO",
        tree("{train2017,val2017}/{1..3}.jpg", f"annotations/instances_{{train,val}}2017.json = {COCO}"),
        code=CONVERT,
        way="crop",
    ),
    Shape(
        "COCO (Roboflow)",
        tree("{train,valid}/{1..3}.jpg", f"{{train,valid}}/_annotations.coco.json = {COCO}"),
        code=CONVERT,
        way="crop",
    ),
    Shape("COCO, one json", tree("data/{1..3}.jpg", f"labels.json = {COCO}"), code=CONVERT, way="crop"),
    Shape(
        "YOLO",
        tree("images/{train,val}/{1..3}.jpg", "labels/{train,val}/{1..3}.txt = 0 0.5 0.5 0.2 0.2", "data.yaml = nc: 1"),
        code=CONVERT,
        way="crop",
    ),
    Shape(
        "YOLO (Roboflow)",
        tree(
            "{train,valid}/images/{1..3}.jpg",
            "{train,valid}/labels/{1..3}.txt = 0 0.5 0.5 0.2 0.2",
            "data.yaml = nc: 1",
        ),
        code=CONVERT,
        way="crop",
    ),
    Shape(
        "YOLO, boxes beside images",
        tree("{1..3}.jpg", "{1..3}.txt = 0 0.513 0.4 0.2 0.1"),
        code="not_classes",
        way="crop",
    ),
    Shape(
        "Captions beside images",
        tree(
            "{1..4}.jpg",
            "1.txt = a cat on the mat",
            "2.txt = my dog in the park",
            "3.txt = one more cat today",
            "4.txt = the dog that barks",
        ),
        code="not_classes",
        way="class folders",
    ),
    Shape(
        "Pascal VOC",
        tree("VOCdevkit/VOC2012/JPEGImages/{1..3}.jpg", "VOCdevkit/VOC2012/Annotations/{1..3}.xml = <a/>"),
        code=CONVERT,
        way="crop",
    ),
    Shape(
        "TensorFlow's detection table",
        tree(LISTED, "labels.csv = filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,8,8,cat,1,1,2,2\n"),
        code=CONVERT,
        way="crop",
    ),
    Shape(
        "Label Studio",
        tree(
            LISTED,
            "export.json = "
            + json.dumps(
                [
                    {
                        "id": 1,
                        "data": {"image": "/data/upload/a.jpg"},
                        "annotations": [{"result": [{"value": {"choices": ["cat"]}}]}],
                    }
                ]
            ),
        ),
        code=CONVERT,
        way="CSV",
    ),
    Shape(
        "FiftyOne",
        tree("data/{a,b}.jpg", "labels.json = " + json.dumps({"classes": ["cat"], "labels": {"a": 0, "b": 0}})),
        code=CONVERT,
        way="ImageClassificationDirectoryTree",
    ),
    Shape(
        "Vertex AI",
        tree(
            LISTED,
            "labels.csv = TRAINING,gs://bucket/images/a.jpg,cat\nTRAINING,gs://bucket/images/b.jpg,dog\n"
            "TEST,gs://bucket/images/c.jpg,cat\nVALIDATION,gs://bucket/images/d.jpg,dog\n",
        ),
        PETS,
        {"train": 2, "test": 1, "validation": 1},
    ),
    Shape(
        "Hugging Face save_to_disk",
        tree(
            "ds/train/data-00000-of-00001.arrow = ARROW1",
            "ds/train/{dataset_info,state}.json = {}",
            "ds/dataset_dict.json = {}",
        ),
        code=CONVERT,
        way="to_parquet",
    ),
    Shape("MedMNIST (npz)", tree("train_{images,labels}.npy = NUMPY"), code=CONVERT, way="class folders"),
)
SHARDS = (
    Shape(
        "push_to_hub of 2023, with hashes",
        {
            "data/train-00000-of-00001-b42a775f407cee45.parquet": rows(["cat", "dog"] * 2),
            "data/test-00000-of-00001-cc110a1b2c3d4e5f.parquet": rows(["cat", "dog"], 10),
        },
        PETS,
        {"train": 4, "test": 2},
    ),
    Shape(
        "train_images.parquet and test_images.parquet",
        {"train_images.parquet": rows(["cat", "dog"]), "test_images.parquet": rows(["cat", "dog"], 10)},
        PETS,
        {"train": 2, "test": 2},
    ),
    Shape(
        "A Parquet file that names no split beside others",
        {"train.parquet": rows(["cat", "dog"]), "more.parquet": rows(["cat", "dog"], 10)},
        code=MIXED,
        way="split_of",
    ),
    Shape(
        "… with split_of",
        {"train.parquet": rows(["cat", "dog"]), "more.parquet": rows(["cat", "dog"], 10)},
        PETS,
        {"train": 2, "test": 2},
        choices=Choices(split_of=(("more", "test"), ("train", "train"))),
    ),
    Shape(
        "A Hub repository with a picture in its README",
        {"data/train-0.parquet": rows(["cat", "dog"]), "README.md": b"# Pets", **tree("assets/banner.png")},
        PETS,
        {"train": 2},
    ),
    Shape(
        "Two columns of classes (CIFAR-100 of the Hub)",
        {"train.parquet": parquet(img=[{"bytes": digit_pngs(1)[0]}] * 2, fine_label=[1, 2], coarse_label=[0, 0])},
        code="bad_table",
        way="label_column",
    ),
    Shape(
        "… with label_column",
        {"train.parquet": parquet(img=[{"bytes": digit_pngs(1)[0]}] * 2, fine_label=[1, 2], coarse_label=[0, 0])},
        ("1", "2"),
        {"train": 2},
        choices=Choices(label_column="fine_label"),
    ),
    Shape(
        "A column called class, of truth values",
        {"train.parquet": parquet(Image=[{"bytes": digit_pngs(1)[0]}] * 2, Class=[True, False])},
        ("false", "true"),
        {"train": 2},
    ),
    Shape(
        "A column of lists",
        {"train.parquet": parquet(image=[{"bytes": digit_pngs(1)[0]}], label=[[1, 2]])},
        code="multi_label",
        way="one class an image",
    ),
    Shape(
        "WebDataset, train and dev",
        {"train-0.tar": shard(), "dev-0.tar": shard(10)},
        ("0", "1"),
        {"train": 4, "validation": 4},
    ),
    Shape("WebDataset, compressed shards", {"train/0.tar.gz": gzip.compress(shard())}, ("0", "1"), {"train": 4}),
    Shape(
        "WebDataset of captions",
        {
            "0.tar": tar_bytes(
                {
                    **tree("{0..3}.png"),
                    "0.txt": b"a cat on a mat",
                    "1.txt": b"the dog at night",
                    "2.txt": b"cats that play",
                    "3.txt": b"a dog with balls",
                }
            )
        },
        code="not_classes",
        way="class folders",
    ),
)
USUAL = (*FOLDERS, *TABLES, *EXPORTS, *SHARDS)
