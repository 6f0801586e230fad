"""Labelled images: scikit-learn's digits, and what lies in files. Nothing is downloaded."""

from funcrl.data.digits import digits
from funcrl.data.files import cifar10, folder, idx
from funcrl.data.labelled import LabelledImages

__all__ = ["LabelledImages", "cifar10", "digits", "folder", "idx"]
