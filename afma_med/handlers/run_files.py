"""The names of all files in the folder of a run."""

__all__ = [
    "BEST",
    "CONFUSION",
    "EVALUATION",
    "EXPLORER",
    "IMAGES",
    "LABELS",
    "LAST",
    "SCORES",
    "SCORE_TABLE",
    "SETTINGS",
]

#: State of the training, to resume it.
LAST = "last.pt"
#: Weights of the best epoch.
BEST = "model.pt"
#: Settings of the network and of its training.
SETTINGS = "settings.json"
#: Page to explore the attention, where `afma compare` looks for it.
EXPLORER = "explorer.html"

#: Folder of the evaluation.
EVALUATION = "evaluation"
#: Predicted train ids as images or volumes, in the folder of the evaluation or of the predictions.
LABELS = "labels"
#: All scores of an evaluation, with its checkpoint and data.
SCORES = "scores.json"
#: The same scores as a spreadsheet.
SCORE_TABLE = "scores.csv"
#: Pixel counts of each image.
IMAGES = "images.csv"
#: Confusion matrix of the classes.
CONFUSION = "confusion.csv"
