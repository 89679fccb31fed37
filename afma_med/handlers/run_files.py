"""The names of all files in the folder of a run."""

__all__ = ["BEST", "CONFUSION", "EVALUATION", "EXPLORER", "IMAGES", "LABELS", "LAST", "SCORES", "SCORE_TABLE"]
__all__ += ["SETTINGS"]

LAST = "last.pt"  # state of the training, to resume it
BEST = "model.pt"  # weights of the best epoch
SETTINGS = "settings.json"  # settings of the network and of its training
EXPLORER = "explorer.html"  # page to explore the attention, where `afma compare` looks for it

EVALUATION = "evaluation"  # folder of the evaluation
LABELS = "labels"  # predicted train ids, in the folder of the evaluation or of the predictions
SCORES = "scores.json"  # all scores of an evaluation, with its checkpoint and data
SCORE_TABLE = "scores.csv"  # the same scores as a spreadsheet
IMAGES = "images.csv"  # pixel counts of each image
CONFUSION = "confusion.csv"  # confusion matrix of the classes
