"""What annotation tools and libraries export."""

import json

from tests.shapes.shape import Shape, tree
from tests.shapes.words import CONVERT, LISTED, PETS

COCO = json.dumps({"images": [{"id": 1}], "annotations": [{"image_id": 1}], "categories": [{"id": 1}]})
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
                        "id": number,
                        "data": {"image": f"/data/upload/1/0123abcd-{name}.jpg"},
                        "annotations": [{"result": [{"from_name": "choice", "value": {"choices": [label]}}]}],
                    }
                    for number, (name, label) in enumerate(zip("abcd", PETS * 2, strict=True))
                ]
            ),
        ),
        PETS,
        {None: 4},
    ),
    Shape(
        "FiftyOne",
        tree("data/{a,b}.jpg", "labels.json = " + json.dumps({"classes": PETS, "labels": {"a": 0, "b": 1}})),
        PETS,
        {None: 2},
    ),
    Shape(
        "FiftyOneDataset",
        tree("data/{a,b}.jpg", "{samples,metadata}.json = {}"),
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
