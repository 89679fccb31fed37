#!/usr/bin/env bash
# Set up, train on the embedded sample, evaluate, draw the attention of a small object, and print where the results are.
# Arguments go to the training:
#   ./scripts/quickstart.sh --max_epochs 3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_environment.sh

run=runs/quickstart
bundle=bundles/camvid_afma.json
# MONAI warns at every run that a bundle's expressions are code; this one is ours.
export PYTHONWARNINGS=${PYTHONWARNINGS:-ignore::UserWarning}

echo
echo "1/3  Training on synthetic street scenes (two to three minutes on two CPU cores) ..."
.venv/bin/python -c 'from afma_med.samples import write_street_scenes; write_street_scenes("data/street_scenes")'
.venv/bin/python -m monai.bundle run --config_file "$bundle" --dataset_dir data/street_scenes --output_dir "$run" "$@"

echo
echo "2/3  Evaluating the best weights on the test section ..."
.venv/bin/python -m monai.bundle run --config_file "['$bundle','bundles/evaluate.json']" --output_dir "$run"

echo
echo "3/3  Drawing the attention of the small object that the correction helps most ..."
picture=$(.venv/bin/afma show "$run" --corrected | sed -n '/\.png$/p')

cat <<EOF

Done. Everything is in $run:
  attention/$picture
                           a small object: image, attention, regions that vote for it, prediction before and after
  model.pt                 best weights         last.pt  state of the training, to resume it (--resume True)
  evaluation/scores.csv    IoU of each class, also by object size    evaluation/scores.json  the same for programs
  evaluation/color/*.png   predictions in the classes' colours; evaluation/labels/*.png  with the values of the label files
Compare the attention with the gold attention and with that of another image:
  .venv/bin/afma measure $run --section test
Curves and pictures:
  .venv/bin/tensorboard --logdir $run     then open http://localhost:6006
Train on your own CamVid, half an hour to an hour on one CPU core:
  .venv/bin/python -m monai.bundle run --config_file "['$bundle','bundles/fast_recipe.json']" --dataset_dir FOLDER
EOF
