"""The names of all files in the folder of a run."""

__all__ = ["BEST", "CONFUSION", "EVALUATION", "IMAGES", "LABELS", "LAST", "SCORES", "SCORE_TABLE", "SETTINGS"]

#: Everything that resuming needs.
LAST = "last.pt"
#: The weights of the best epoch.
BEST = "model.pt"
#: What the network was built from, and how it was trained.
SETTINGS = "settings.json"

#: Folder of the evaluation.
EVALUATION = "evaluation"
#: Predicted train ids as images or volumes, in the folder of the evaluation or of the predictions.
LABELS = "labels"
#: All scores of an evaluation, with what was evaluated.
SCORES = "scores.json"
#: The same scores for spreadsheets.
SCORE_TABLE = "scores.csv"
#: Pixels that were counted in each image.
IMAGES = "images.csv"
#: Pixels by class of label and prediction.
CONFUSION = "confusion.csv"
