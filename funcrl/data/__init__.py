"""Labelled images: scikit-learn's digits, and what lies in files. Nothing is downloaded."""

from funcrl.data.digits import digits
from funcrl.data.files import cifar10, folder, idx
from funcrl.data.labelled import LabelledImages
from funcrl.data.reading import FORMATS, NAMES, Split, read

__all__ = ["FORMATS", "NAMES", "LabelledImages", "Split", "cifar10", "digits", "folder", "idx", "read"]
