"""Public data sets as they are downloaded."""

import gzip
from pathlib import Path

from registry.intake.choices import Choices
from tests.registry.uploads import tar_bytes
from tests.shapes.shape import Build, Shape, tree

CONVERT = "needs_conversion"
DIGITS = tuple(str(digit) for digit in range(3))
_IDX_IMAGES = b"\0\0\x08\x03" + bytes(12) + bytes(784)


def _file(content: bytes) -> Build:
    def build(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return build


def _inner_tars() -> dict[str, bytes]:
    images = {name: tree(f"{name}_{{1..3}}.JPEG") for name in ("n01440764", "n01443537")}
    return {f"{name}.tar": tar_bytes(members) for name, members in images.items()}


PUBLIC = (
    # The tasks of the paper.
    Shape(
        "Stanford Cars (cars_train, cars_test, devkit)",
        tree(
            "cars_{train,test}/{00001..00004}.jpg",
            "devkit/{cars_meta,cars_train_annos}.mat = MATLAB 5.0",
            "devkit/README.txt",
        ),
        code=CONVERT,
        way="StanfordCars",
    ),
    Shape(
        "DTD (dtd-r1.0.1)",
        tree(
            "dtd/images/{banded,dotted}/{banded,dotted}_{1..3}.jpg",
            "dtd/imdb/imdb.mat = MATLAB 5.0",
            "dtd/labels/{train,val,test}1.txt = banded/banded_1.jpg",
        ),
        ("banded", "dotted"),
        {None: 12},
        warnings=("unread_lists",),
    ),
    Shape(
        "EuroSAT (RGB, 2750)",
        tree("2750/{AnnualCrop,Forest}/{AnnualCrop,Forest}_{1..3}.jpg"),
        ("AnnualCrop", "Forest"),
        {None: 12},
    ),
    Shape(
        "GTSRB training images",
        tree(
            "GTSRB/Final_Training/Images/{00000,00001}/00000_{00000..00002}.ppm",
            "GTSRB/Final_Training/Images/00000/GT-00000.csv = Filename;Width;Height;Roi.X1;ClassId\n"
            + "".join(f"00000_0000{n}.ppm;29;30;5;0\n" for n in range(3)),
            "GTSRB/Final_Training/Images/00001/GT-00001.csv = Filename;Width;Height;Roi.X1;ClassId\n"
            + "".join(f"00000_0000{n}.ppm;29;30;5;1\n" for n in range(3)),
            "GTSRB/Readme-Images.txt = read me",
        ),
        ("0", "1"),
        {None: 6},
    ),
    Shape(
        "GTSRB with test images",
        tree(
            "GTSRB/Final_Training/Images/{00000,00001}/00000_{00000..00002}.ppm",
            "GTSRB/Final_Test/Images/{00000..00003}.ppm",
            "GTSRB/Final_Test/Images/GT-final_test.test.csv = Filename;Width;Height;Roi.X1\n00000.ppm;29;30;5\n",
        ),
        ("00000", "00001"),
        {"train": 6},
        warnings=("unlabelled_folder",),
    ),
    Shape(
        "KITTI object (distance task)",
        tree(
            "{training,testing}/image_2/{000000..000003}.png", "training/label_2/{000000..000003}.txt = Car 0.00 0 1.9"
        ),
        code=CONVERT,
        way="training/label_2",
    ),
    Shape(
        "MNIST (train-images-idx3-ubyte.gz alone)",
        build=_file(gzip.compress(_IDX_IMAGES)),
        code="unknown_format",
        way="MNIST",
    ),
    Shape(
        "MNIST (folder of idx files)",
        tree("MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz = idx"),
        code=CONVERT,
        way="MNIST",
    ),
    Shape("RESISC45 (rar)", build=_file(b"Rar!\x1a\x07\0" + bytes(600)), code="unknown_format", way="unrar"),
    Shape(
        "RESISC45 (unpacked)",
        tree("NWPU-RESISC45/{airplane,airport}/{airplane,airport}_{001..003}.jpg"),
        ("airplane", "airport"),
        {None: 12},
    ),
    Shape(
        "SUN397",
        tree(
            "SUN397/a/{abbey,airplane_cabin}/sun_{a,b,c}.jpg",
            "SUN397/a/apartment_building/outdoor/sun_{a,b,c}.jpg",
            "SUN397/b/{badlands,balcony/interior,balcony/exterior}/sun_{a,b,c}.jpg",
            "SUN397/ClassName.txt = /a/abbey",
        ),
        ("abbey", "airplane_cabin", "apartment_building/outdoor", "badlands", "balcony/exterior", "balcony/interior"),
        {None: 18},
        warnings=("grouped_classes",),
    ),
    Shape(
        "SVHN (train_32x32.mat alone)",
        build=_file(b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(600)),
        code="unknown_format",
        way="SVHN",
    ),
    Shape(
        "SVHN (format 1)",
        tree("{train,test}/{1..4}.png", "{train,test}/digitStruct.mat = HDF"),
        code=CONVERT,
        way="SVHN",
    ),
    # Others.
    Shape(
        "Food-101",
        tree(
            "food-101/images/{apple_pie,waffles}/{100..103}.jpg",
            "food-101/meta/{train,test}.txt = apple_pie/100",
            "food-101/license_agreement.txt = text",
        ),
        ("apple_pie", "waffles"),
        {None: 8},
        warnings=("unread_lists",),
    ),
    Shape(
        "Oxford-IIIT Pet",
        tree(
            "images/{Abyssinian,beagle}_{1..3}.jpg",
            "annotations/{trainval,test}.txt = Abyssinian_1 1 1 1",
            "annotations/trimaps/{Abyssinian,beagle}_{1..3}.png",
        ),
        code=CONVERT,
        way="OxfordIIITPet",
    ),
    Shape("Flowers-102", tree("jpg/image_{00001..00005}.jpg"), code=CONVERT, way="Flowers102"),
    Shape(
        "CUB-200-2011",
        tree(
            "CUB_200_2011/images/{001.Black_footed_Albatross,002.Laysan_Albatross}/Bird_{1..3}.jpg",
            "CUB_200_2011/{images,classes,train_test_split}.txt = 1 1",
            "attributes.txt = 1",
        ),
        ("001.Black_footed_Albatross", "002.Laysan_Albatross"),
        {None: 6},
        warnings=("unread_lists",),
    ),
    Shape("ImageNet train (tar of tars)", _inner_tars(), code=CONVERT, way="tar -xf", kind="tar"),
    Shape(
        "ImageNet train (unpacked)",
        tree("train/{n01440764,n01443537}/n_{1..3}.JPEG"),
        ("n01440764", "n01443537"),
        {"train": 6},
    ),
    Shape("ImageNet val (flat)", tree("ILSVRC2012_val_{00000001..00000004}.JPEG"), code=CONVERT, way="ImageNet"),
    Shape(
        "ImageNet (Kaggle, CLS-LOC)",
        tree(
            "ILSVRC/Data/CLS-LOC/train/{n01440764,n01443537}/n_{1..3}.JPEG",
            "ILSVRC/Data/CLS-LOC/{val,test}/x_{1..2}.JPEG",
            "ILSVRC/Annotations/CLS-LOC/train/n01440764/n_{1..3}.xml = <a/>",
        ),
        ("n01440764", "n01443537"),
        {"train": 6},
        warnings=("unlabelled_folder",),
    ),
    Shape(
        "Tiny-ImageNet",
        tree(
            "tiny-imagenet-200/train/{n01443537,n01629819}/images/n_{0..3}.JPEG",
            "tiny-imagenet-200/{val,test}/images/x_{0..3}.JPEG",
            "tiny-imagenet-200/val/val_annotations.txt = val_0.JPEG\tn01443537",
            "tiny-imagenet-200/{wnids,words}.txt = n01443537",
        ),
        code=CONVERT,
        way="val_annotations.txt",
    ),
    Shape(
        "CIFAR-10 (python)",
        tree("cifar-10-batches-py/{data_batch_1,test_batch,batches.meta} = pickle"),
        code=CONVERT,
        way="CIFAR10",
        kind="tar.gz",
    ),
    Shape(
        "CIFAR-100 (python)",
        tree("cifar-100-python/{train,test,meta} = pickle"),
        code=CONVERT,
        way="CIFAR100",
        kind="tar.gz",
    ),
    Shape(
        "FGVC-Aircraft",
        tree(
            "fgvc-aircraft-2013b/data/images/{0034309,0034958,0037511}.jpg",
            "fgvc-aircraft-2013b/data/images_variant_{train,val,test}.txt = 0034309 707-320",
        ),
        code=CONVERT,
        way="FGVCAircraft",
    ),
    Shape(
        "UCMerced",
        tree("UCMerced_LandUse/Images/{agricultural,airplane}/x{00..02}.tif", "UCMerced_LandUse/readme.txt"),
        ("agricultural", "airplane"),
        {None: 6},
    ),
    Shape(
        "Caltech-101 (archive within)",
        {
            "caltech-101/101_ObjectCategories.tar.gz": gzip.compress(
                tar_bytes(tree("101_ObjectCategories/{ant,bass}/{1..2}.jpg"))
            )
        },
        code=CONVERT,
        way="tar -xzf",
    ),
    Shape(
        "Chest X-ray (Kaggle, folder in folder)",
        tree("chest_xray/chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/x{1..2}.jpeg"),
        ("NORMAL", "PNEUMONIA"),
        {"train": 4, "validation": 4, "test": 4},
    ),
    Shape(
        "Chest X-ray (Kaggle, with its copy)",
        tree(
            "chest_xray/chest_xray/{train,test}/{NORMAL,PNEUMONIA}/x1.jpeg",
            "chest_xray/{train,test}/{NORMAL,PNEUMONIA}/x1.jpeg",
        ),
        code="ambiguous_layout",
        way="root",
    ),
    Shape(
        "Chest X-ray (Kaggle, with its copy, root=chest_xray/chest_xray)",
        tree(
            "chest_xray/chest_xray/{train,test}/{NORMAL,PNEUMONIA}/x1.jpeg",
            "chest_xray/{train,test}/{NORMAL,PNEUMONIA}/x1.jpeg",
        ),
        ("NORMAL", "PNEUMONIA"),
        {"train": 2, "test": 2},
        choices=Choices(root="chest_xray/chest_xray"),
    ),
    Shape(
        "Intel scenes (seg_train, seg_test, seg_pred)",
        tree(
            "archive/seg_{train/seg_train,test/seg_test}/{sea,street}/{1..3}.jpg",
            "archive/seg_pred/seg_pred/{1..4}.jpg",
        ),
        ("sea", "street"),
        {"train": 6, "test": 6},
        warnings=("unlabelled_folder",),
    ),
    Shape(
        "Cats and dogs (PetImages)",
        tree("archive/PetImages/{Cat,Dog}/{0..2}.jpg", "archive/readme[1].txt = hello"),
        ("Cat", "Dog"),
        {None: 6},
    ),
    Shape(
        "Dogs vs. cats (Kaggle, classes in file names)",
        tree("train/{cat,dog}.{0..3}.jpg", "test1/{1..4}.jpg"),
        code=CONVERT,
        way="mkdir",
    ),
    Shape(
        "A Kaggle table with folders of images",
        tree(
            "train/{1..4}.jpg",
            "test/{5..6}.jpg",
            "train.csv = id,breed\n1,pug\n2,pug\n3,boxer\n4,boxer\n",
            "sample_submission.csv = id,breed\n5,pug\n6,pug\n",
        ),
        code="bad_table",
        way="label_column",
    ),
    Shape(
        "A Kaggle table with folders of images, label_column=breed",
        tree(
            "train/{1..4}.jpg",
            "test/{5..6}.jpg",
            "train.csv = id,breed\n1,pug\n2,pug\n3,boxer\n4,boxer\n",
            "sample_submission.csv = id,breed\n5,pug\n6,pug\n",
        ),
        ("boxer", "pug"),
        {"train": 4},
        choices=Choices(label_column="breed"),
    ),
)
