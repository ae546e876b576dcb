"""Tables of labels beside images."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from registry.intake.choices import Choices
from tests.shapes.shape import Shape, tree
from tests.shapes.words import LISTED, PETS, ROWS


def parquet(**columns: list[object]) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


def encoded(encoding: str) -> dict[str, bytes]:
    table = f"file_name,label\n{ROWS}".replace("cat", "chaîne")
    return {**tree(LISTED), "labels.csv": table.encode(encoding)}


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
        tree("train/{a,b}.jpg", "train/_classes.csv = filename, cat, dog\na.jpg,1,1\nb.jpg,1,1\n"),
        code="multi_label",
        way="one class per image",
    ),
    Shape(
        "Several classes in a cell",
        tree(LISTED, "labels.csv = file,label\na.jpg,cat|dog\nb.jpg,dog\nc.jpg,cat\nd.jpg,cat|fox\n"),
        code="multi_label",
        way="one class per image",
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
